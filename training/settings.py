"""The worker's settings, read from the environment once, by the entry point."""

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """Each field is the environment variable of the same name in capitals."""

    database_url: SecretStr
    """Where the rows are: postgresql://user:password@host:port/database."""

    broker_url: SecretStr
    """Where the messages are: amqp://user:password@host:port/cifar."""

    models_path: Path = Path("models")
    """Folder that models are published to; checkpoints of unfinished runs are in its `.runs`."""

    data_sets: Path = Path(".local/data-sets")
    """Folder of the data sets that a run may name: folders and archives with train/ and test/."""

    cache_path: Path = Path(".local/data")
    """Where CIFAR-10 is downloaded to and archives are unpacked; it may be emptied between runs."""

    torch_installer: str = ""
    """Program that installs PyTorch, called with the argument `torch` when a run finds none. Empty: the
    image has it."""

    alive_file: Path | None = None
    """Touched at each heartbeat, every two seconds while the broker is there, for a container's health
    check; none is."""
