"""The worker's entry point: `celery -A training.worker.main worker`."""

import sys
from pathlib import Path

from training.worker.app import build_app
from training.worker.settings import Settings

SECRETS = Path("/run/secrets")  # Docker mounts each secret as a file here


def build_command(settings: Settings) -> list[str]:
    """The command of a child process. Its CPU priority is low, because serving comes first."""
    command = ["nice", "-n", "10", sys.executable, "-m"]
    if settings.torch_installer:
        return [*command, "training.install", settings.torch_installer]
    return [*command, "training.train"]


settings = Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None)  # pyright: ignore
app = build_app(settings, build_command(settings))
