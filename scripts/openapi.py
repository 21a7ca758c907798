"""Write the backend's OpenAPI description to the given file. The UI's types are generated from it."""

import json
import sys
from pathlib import Path

from backend.main import build_app
from backend.settings import Settings

NOWHERE = {"database_url": "postgresql://nowhere", "broker_url": "amqp://nowhere"}  # both stay unused

if __name__ == "__main__":
    description = build_app(Settings.model_validate(NOWHERE)).openapi()
    Path(sys.argv[1]).write_text(json.dumps(description, indent=2) + "\n")
