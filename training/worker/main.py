"""The worker's entry point: `celery -A training.worker.main worker`."""

import sys
from pathlib import Path

from training.worker.app import build_app
from training.worker.settings import Settings

SECRETS = Path("/run/secrets")  # Docker mounts each secret as a file here


def build_command(settings: Settings) -> list[str]:
    """The command of a child process. Its CPU priority is low, because serving comes first."""
    installer = settings.torch_installer
    module = ["training.install", installer] if installer else ["training.train"]
    return ["nice", "-n", "10", sys.executable, "-m", *module]


settings = Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None)  # pyright: ignore
app = build_app(settings, build_command(settings))
