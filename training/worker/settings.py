"""The settings of the training worker. The entry point reads them once."""

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """Each field comes from the environment variable of its name in capitals, or from the file of its name in
    /run/secrets."""

    database_url: SecretStr
    """PostgreSQL: postgresql://user:password@host:port/database."""

    broker_url: SecretStr
    """RabbitMQ: amqp://user:password@host:port/cifar."""

    models_path: Path = Path("models")
    """Folder where models are published; its folder `.runs` holds the checkpoints of unfinished runs."""

    data_sets: Path = Path(".local/data-sets")
    """Folder of the data sets that a run can name: folders and archives with train/ and test/."""

    cache_path: Path = Path(".local/data")
    """Folder for the download of CIFAR-10 and for unpacked archives; it may be emptied between runs."""

    torch_installer: str = ""
    """Program that installs PyTorch and the other packages of training. A run calls it with the argument
    `torch` if one of them is missing. Empty in Docker, whose image has them."""

    alive_file: Path | None = None
    """File for a container's health check, touched every two seconds while the broker is connected."""
