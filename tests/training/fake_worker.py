"""The training worker with the fake child: `celery -A tests.training.fake_worker worker`."""

import sys
from pathlib import Path

from training.app import create_app
from training.settings import Settings

COMMAND = (sys.executable, str(Path(__file__).with_name("fake_train.py")))

app = create_app(Settings(), COMMAND)  # pyright: ignore[reportCallIssue]
