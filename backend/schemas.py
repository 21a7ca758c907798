"""The shapes that the API sends, as documented at /docs."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled"})

EXAMPLE_ID = "019a0c5e-7a3b-7c11-9d52-0f6f3b8e2a41"


class LabelProbability(BaseModel):
    label: str
    probability: Annotated[float, Field(ge=0, le=1)]


class Failure(BaseModel):
    """Why a prediction failed or a file was refused, and what to do next."""

    title: str
    detail: str


class Metrics(BaseModel):
    queue_ms: Annotated[float | None, Field(description="From acceptance to the latest claim.")]
    batch_size: Annotated[int | None, Field(description="Images in the batch that it ran in.")]
    predict_ms: Annotated[float | None, Field(description="The batch's forward pass.")]


class Urls(BaseModel):
    self: str
    events: str
    image: str


class Prediction(BaseModel):
    """One uploaded image and its outcome."""

    id: Annotated[UUID, Field(description="Version 7: sorts by time.")]
    filename: str
    status: Status
    prediction: Annotated[str | None, Field(description="The label with the highest probability.")]
    confidence: Annotated[float | None, Field(ge=0, le=1, description="That probability.")]
    probabilities: Annotated[list[LabelProbability], Field(description="Every label, highest first.")]
    model: Annotated[str | None, Field(description="Version of the model that answered.")]
    error: Failure | None
    timestamp: Annotated[datetime, Field(description="When the upload was accepted.")]
    started_at: datetime | None
    completed_at: datetime | None
    metrics: Metrics
    feedback: Annotated[str | None, Field(description="The label that a person says is right.")]
    urls: Urls

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": EXAMPLE_ID,
                    "filename": "cat.png",
                    "status": "succeeded",
                    "prediction": "cat",
                    "confidence": 0.971204,
                    "probabilities": [
                        {"label": "cat", "probability": 0.971204},
                        {"label": "dog", "probability": 0.028796},
                    ],
                    "model": "2026-11-24-1f0c9a7b",
                    "error": None,
                    "timestamp": "2026-11-24T08:15:30.123Z",
                    "started_at": "2026-11-24T08:15:30.128Z",
                    "completed_at": "2026-11-24T08:15:30.141Z",
                    "metrics": {"queue_ms": 5.2, "batch_size": 8, "predict_ms": 9.7},
                    "feedback": None,
                    "urls": {
                        "self": f"/api/predictions/{EXAMPLE_ID}",
                        "events": f"/api/predictions/{EXAMPLE_ID}/events",
                        "image": f"/api/predictions/{EXAMPLE_ID}/image",
                    },
                }
            ]
        }
    )


class Refused(BaseModel):
    """A file that was not accepted; nothing is stored of it."""

    filename: str
    error: Failure


class PredictionBatch(BaseModel):
    """The answer to several files: one entry for each, in the order sent."""

    predictions: list[Prediction | Refused]


class PredictionPage(BaseModel):
    """A page of the history, newest first."""

    results: list[Prediction]
    next: Annotated[str | None, Field(description="Pass as `cursor` for the page of older ones.")]
    previous: Annotated[str | None, Field(description="Pass as `cursor` for the page of newer ones.")]


class DatabaseHealth(BaseModel):
    status: Literal["ok", "down"]
    latency_ms: float | None
    detail: str | None = None


class BrokerHealth(BaseModel):
    status: Literal["ok", "down"]
    latency_ms: float | None
    queue_depth: Annotated[int | None, Field(description="Messages that no worker has taken yet.")]
    consumers: int | None
    detail: str | None = None


class Worker(BaseModel):
    name: str
    status: Literal["ok", "silent"]
    model: str
    device: str
    last_seen: datetime
    predictions_per_second: Annotated[float, Field(description="Over the last ten seconds.")]
    batches_per_second: float


class InferenceHealth(BaseModel):
    status: Literal["ok", "degraded", "down"]
    model: Annotated[str | None, Field(description="Version served; the newest if workers differ.")]
    device: str | None
    last_seen: datetime | None
    workers: list[Worker]
    detail: str | None = None


ContainerState = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]


class Container(BaseModel):
    name: str
    service: str | None
    state: ContainerState
    health: Annotated[str | None, Field(description="starting, healthy or unhealthy, if it is checked.")]
    started_at: datetime | None
    restarts: int
    cpu_percent: Annotated[float | None, Field(description="100 is one core.")]
    memory_bytes: int | None


class GpuProcess(BaseModel):
    pid: int
    memory_used_bytes: int | None


class MigDevice(BaseModel):
    """A part of a GPU in MIG mode: what CUDA sees instead of the whole."""

    name: str | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None


class Gpu(BaseModel):
    """One GPU. A figure that its driver cannot give is null."""

    index: int
    name: str | None
    memory_used_bytes: Annotated[int | None, Field(description="With what the driver keeps for itself.")]
    memory_total_bytes: int | None
    utilization_percent: Annotated[
        int | None, Field(description="Share of the last moments in which a kernel ran; null in MIG mode.")
    ]
    temperature_c: int | None
    power_w: float | None
    processes: Annotated[list[GpuProcess] | None, Field(description="Those that compute.")]
    mig_mode: Annotated[
        Literal["on", "off"] | None,
        Field(description="Multi-Instance GPU; null if the GPU has no such mode."),
    ]
    mig_devices: Annotated[
        list[MigDevice], Field(description="The parts it is cut into; none if not in MIG mode.")
    ]
    detail: Annotated[str | None, Field(description="What is wrong with this GPU, if anything.")] = None


class Components(BaseModel):
    database: DatabaseHealth
    broker: BrokerHealth
    inference: InferenceHealth
    containers: list[Container]
    containers_unavailable: Annotated[str | None, Field(description="Why there is no list.")] = None
    gpus: list[Gpu]
    gpus_unavailable: Annotated[str | None, Field(description="Why there is no list.")] = None


class Health(BaseModel):
    """`ok`; `degraded`: predictions are served, but something is missing; `down`: they are not."""

    status: Literal["ok", "degraded", "down"]
    components: Components


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: Annotated[str, Field(description="What happened, and what to do next.")]
    request_id: Annotated[str, Field(description="Quote it when you ask for help.")]
