"""The backend's settings, read from the environment once, by the application factory."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """Each field is the environment variable of the same name in capitals."""

    database_url: SecretStr
    """Where the rows are: postgresql://user:password@host:port/database."""

    broker_url: SecretStr
    """Where the messages go: amqp://user:password@host:port/cifar."""

    max_upload_bytes: int = Field(20 * 2**20, ge=1024)
    """The largest file. Lower: ordinary camera pictures are refused. Higher: more memory a request."""

    max_request_bytes: int = Field(64 * 2**20, ge=1024)
    """The largest request, all its files together. The proxy enforces the same figure."""

    max_files: int = Field(256, ge=1)
    """Files in one request. Lower: more requests for a folder of images. Higher: more work that is lost
    when a request fails."""

    max_image_pixels: int = Field(65_000_000, ge=1024)
    """The largest image, width times height. Lower: large photographs are refused. Higher: a small
    file can cost more time and memory to decode (20 bytes a pixel are granted; images of more than 16
    million pixels are decoded one at a time)."""

    max_decode_seconds: int = Field(5, ge=1)
    """CPU seconds that decoding one file may take, in whole seconds. Lower: sound but large photographs are
    refused on a slow machine. Higher: a file made to be slow keeps other large ones waiting for longer."""

    max_pending_bytes: int = Field(128 * 2**20, ge=1024)
    """Bytes of uploads that may wait to be decoded at once, before uploads are answered 429; a request counts
    with its size, at most that of one file. Lower: bursts of large files are refused sooner. Higher: more
    memory."""

    max_unfinished: int = Field(10_000, ge=1)
    """Predictions that may wait at once, before uploads are answered 429. Lower: bursts are refused
    sooner. Higher: the last in line waits longer."""

    docker_url: str = ""
    """Docker's API, for the containers in the health report; empty where there is none. Point it at a
    proxy that lets only reading through, never at the socket itself."""

    docker_label: str = "com.docker.compose.project=cifar"
    """What this deployment's containers are labeled with; others are not reported."""

    models_path: Path = Path("models")
    """Folder of models, for their pictures; what a model is worth is in the database. Read only."""

    database_connections: int = Field(8, ge=1)
    """Connections of one backend for all that is quick; it has seven more: for searches, exports, health and
    notifications. Lower: requests wait for one another. Higher: less room for other backends under
    PostgreSQL's limit of 100."""

    retention_days: int = Field(0, ge=0, le=36_500)
    """Age at which predictions that have ended are removed; 0 keeps all. Lower: people find less of what they
    uploaded. Higher: more disk, about 5 kB a prediction."""
