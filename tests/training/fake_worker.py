"""The training worker with the fake child: `celery -A tests.training.fake_worker worker`."""

import sys

from training.app import create_app
from training.settings import Settings

COMMAND = (sys.executable, "-m", "tests.training.fake_train")

app = create_app(Settings(), COMMAND)  # pyright: ignore[reportCallIssue]
