"""The worker's entry point: `celery -A training.worker worker`."""

import sys
from pathlib import Path

from training.app import create_app
from training.settings import Settings

SECRETS = Path("/run/secrets")  # where Docker puts them, a file for each
# Whatever serves predictions on the same cores goes first.
COMMAND = ("nice", "-n", "10", sys.executable, "-m", "training.train")

app = create_app(Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None), COMMAND)  # pyright: ignore
