"""The settings of the backend. The application factory reads them once."""

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

    max_upload_bytes: int = Field(20 * 2**20, ge=1024)
    """The largest file. Lower: ordinary photos are refused. Higher: more memory for each request."""

    max_request_bytes: int = Field(64 * 2**20, ge=1024)
    """The largest request, also in the proxy. Lower: fewer files fit. Higher: requests may take longer."""

    max_files: int = Field(256, ge=1)
    """Files in one request. Lower: more requests for a folder of images. Higher: more work is lost if a
    request fails."""

    max_image_pixels: int = Field(65_000_000, ge=1024)
    """The largest image, width times height. Lower: large photos are refused. Higher: a small file can take
    more time and memory to decode (up to 20 bytes a pixel). Images of more than 16 million pixels are decoded
    one at a time."""

    max_decode_seconds: int = Field(5, ge=1)
    """CPU time for decoding one file, in whole seconds. Lower: large photos are refused on a slow machine.
    Higher: a malicious slow file delays other large files for longer."""

    max_pending_bytes: int = Field(128 * 2**20, ge=1024)
    """Bytes of uploads that are read and decoded at once. Further uploads get 429. A request counts with its
    size, at most MAX_UPLOAD_BYTES. Lower: bursts of large files are refused sooner. Higher: more memory."""

    max_unfinished: int = Field(10_000, ge=1)
    """Unfinished predictions. Further uploads get 429. Lower: bursts are refused sooner. Higher: the last
    prediction waits longer."""

    docker_url: str = ""
    """Docker's API, for the containers in the health report; empty if there is none. Use a proxy that only
    allows reading, never the socket itself."""

    docker_label: str = "com.docker.compose.project=cifar"
    """The label of this deployment's containers. Other containers are not reported."""

    models_path: Path = Path("models")
    """The folder of models, for their pictures. It is only read."""

    database_connections: int = Field(8, ge=1)
    """Connections of one backend for quick statements. It has seven more: two for searches, one each for
    uploads, events, exports, health and notifications. RETENTION_DAYS adds one. Lower: requests wait for
    each other. Higher: less room for other backends within PostgreSQL's limit of 100."""

    retention_days: int = Field(0, ge=0, le=36_500)
    """Age in days at which ended predictions are removed; 0 keeps all. Lower: a shorter history. Higher: more
    disk, about 5 kB a prediction."""
