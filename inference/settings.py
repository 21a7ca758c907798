"""The worker's settings, read from the environment once, by the entry point."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """Each field is the environment variable of the same name in capitals."""

    database_url: SecretStr
    """Where the rows are: postgresql://user:password@host:port/database."""

    broker_url: SecretStr
    """Where the messages are: amqp://user:password@host:port/cifar."""

    models_path: Path = Path("models")
    """Folder of artifacts, one for each version. The table `models` says which one is served."""

    max_batch_size: int = Field(64, ge=1, le=1024)
    """Images in one forward pass. Lower: less throughput under load. Higher: the unlucky wait longer
    behind a batch, and a crash has more messages to redeliver."""

    cpu_threads: int = Field(1, ge=1)
    """Threads of one forward pass on a CPU. Lower: a batch takes longer. Higher: the same batch costs
    more CPU time in all, and takes it from the other services."""

    metrics_address: str = Field("", pattern=r"^(.+:\d{1,5})?$")
    """Where Prometheus reads this worker's figures: host:port, without a password, so one that only
    Prometheus reaches. Empty: nowhere."""

    alive_file: Path | None = None
    """Touched at each heartbeat, every two seconds while the broker is there, for a container's health
    check; none is."""
