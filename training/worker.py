"""The worker's entry point: `celery -A training.worker worker`."""

import sys
from pathlib import Path

from training.app import create_app
from training.settings import Settings

SECRETS = Path("/run/secrets")  # where Docker puts them, a file for each


def build_command(settings: Settings) -> list[str]:
    """The child's command. Whatever serves predictions on the same cores goes first."""
    command = ["nice", "-n", "10", sys.executable, "-m"]
    if settings.torch_installer:
        return [*command, "training.install", str(settings.torch_installer)]
    return [*command, "training.train"]


settings = Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None)  # pyright: ignore
app = create_app(settings, build_command(settings))
