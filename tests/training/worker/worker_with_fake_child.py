"""A worker with the fake child: `celery -A tests.training.worker.worker_with_fake_child worker`."""

import sys

from training.worker.app import build_app
from training.worker.settings import Settings

COMMAND = (sys.executable, "-m", "tests.training.worker.fake_train")

app = build_app(Settings(), COMMAND)  # pyright: ignore[reportCallIssue]
