"""Response types of the health report."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class DatabaseHealth(BaseModel):
    status: Literal["ok", "down"]
    latency_ms: float | None
    listening: bool = Field(description="If false, live status is up to 5 s late.")
    detail: str | None = None


class BrokerHealth(BaseModel):
    status: Literal["ok", "down"]
    latency_ms: float | None
    queue_depth: int | None = Field(
        description="Messages that wait in `inference` and `inference.bulk`, each with up to 64 ids."
    )
    consumers: int | None = Field(description="Workers that consume from both queues.")
    detail: str | None = None


class Worker(BaseModel):
    name: str
    status: Literal["ok", "silent"]
    model: str
    device: str
    detail: str | None = Field(None, description="Why the worker uses a fallback.")
    last_seen: datetime
    predictions_per_second: float = Field(description="Over the last ten seconds.")
    batches_per_second: float


class InferenceHealth(BaseModel):
    status: Literal["ok", "degraded", "down"]
    unfinished: int = Field(description="Unfinished predictions; an estimate from 5,000 on.")
    model: str | None = Field(description="The version that workers serve; of several, the last by name.")
    device: str | None
    last_seen: datetime | None
    workers: list[Worker]
    detail: str | None = None


class TrainingWorker(BaseModel):
    name: str
    status: Literal["ok", "silent"]
    last_seen: datetime


class TrainingHealth(BaseModel):
    """`down`: there is no training worker. Predictions do not need one."""

    status: Literal["ok", "degraded", "down"]
    workers: list[TrainingWorker]
    detail: str | None = None


ContainerState = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]


class Container(BaseModel):
    name: str
    service: str | None
    state: ContainerState
    health: str | None = Field(description="starting, healthy or unhealthy; null without a health check.")
    started_at: datetime | None
    restarts: int
    cpu_percent: float | None = Field(description="100 is one core.")
    memory_bytes: int | None


class GpuProcess(BaseModel):
    pid: int
    memory_used_bytes: int | None


class MigDevice(BaseModel):
    """A part of a GPU in MIG mode. Programs use it instead of the whole GPU."""

    name: str | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None


class Gpu(BaseModel):
    """One GPU. A figure that the driver does not report is null."""

    index: int
    name: str | None
    memory_used_bytes: int | None = Field(description="May include memory that the driver reserves.")
    memory_total_bytes: int | None
    utilization_percent: int | None = Field(
        description="Share of recent time in which a kernel ran; null in MIG mode."
    )
    temperature_c: int | None
    power_w: float | None
    processes: list[GpuProcess] | None = Field(description="Processes that compute.")
    mig_mode: Literal["on", "off"] | None = Field(
        description="Multi-Instance GPU; null if the GPU does not support it."
    )
    mig_devices: list[MigDevice] = Field(description="The parts of the GPU in MIG mode; empty otherwise.")
    detail: str | None = Field(None, description="What is wrong with this GPU; null if nothing is.")


class Components(BaseModel):
    database: DatabaseHealth
    broker: BrokerHealth
    inference: InferenceHealth
    training: TrainingHealth
    containers: list[Container]
    containers_unavailable: str | None = Field(None, description="Why the list is empty.")
    gpus: list[Gpu]
    gpus_unavailable: str | None = Field(None, description="Why the list is empty.")


class Health(BaseModel):
    """`ok`: predictions are served, and no part fails. `degraded`: they are served, but a part fails. `down`:
    none are served. Docker, GPUs and a training worker need not exist. A silent training worker is a failure.
    """

    status: Literal["ok", "degraded", "down"]
    components: Components
