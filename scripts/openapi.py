"""Write the backend's description of its API to the file given: the UI's types are made from it."""

import json
import sys
from pathlib import Path

from backend.main import build_app
from backend.settings import Settings

NOWHERE = {"database_url": "postgresql://nowhere", "broker_url": "amqp://nowhere"}  # nothing is connected

if __name__ == "__main__":
    description = build_app(Settings.model_validate(NOWHERE)).openapi()
    Path(sys.argv[1]).write_text(json.dumps(description, indent=2) + "\n")
