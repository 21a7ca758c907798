"""The settings of the inference worker. The entry point reads them once."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """Each field comes from the environment variable of its name in capitals, or from the file of its name in
    /run/secrets."""

    database_url: SecretStr
    """PostgreSQL: postgresql://user:password@host:port/database."""

    broker_url: SecretStr
    """RabbitMQ: amqp://user:password@host:port/cifar."""

    models_path: Path = Path("models")
    """Folder of artifacts, one for each version. The table `models` decides which one is served."""

    max_batch_size: int = Field(64, ge=1, le=1024)
    """Images in one forward pass. Lower: less throughput under load. Higher: a prediction can wait longer
    for the batch before its own, and more messages are redelivered after a crash."""

    cpu_threads: int = Field(1, ge=1)
    """Threads of one forward pass on a CPU. Lower: a batch takes longer. Higher: a batch costs more CPU time
    in total, so less is left for the other services."""

    metrics_address: str = Field("", pattern=r"^(.+:\d{1,5})?$")
    """host:port at which Prometheus reads this worker's metrics. There is no password, so only Prometheus
    should reach the port. Empty: the worker opens no port."""

    alive_file: Path | None = None
    """File for a container's health check, touched every two seconds while the broker is connected."""
