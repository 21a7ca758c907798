"""The shapes of predictions."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from backend.schemas import Failure, Status

EXAMPLE_ID = "019a0c5e-7a3b-7c11-9d52-0f6f3b8e2a41"


class LabelProbability(BaseModel):
    label: str
    probability: Annotated[float, Field(ge=0, le=1)]


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
    energy: Annotated[
        float | None,
        Field(description="Minus the log-sum-exp of the logits: the higher, the less familiar."),
    ]
    unfamiliar: Annotated[
        bool | None,
        Field(description="Probably none of the classes; null if the model has no threshold for it."),
    ]
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
                    "energy": -9.21,
                    "unfamiliar": False,
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


class Feedback(BaseModel):
    """What a person says of a prediction."""

    label: Annotated[
        str | None,
        Field(
            min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$", description="Null takes it back."
        ),
    ]

    model_config = ConfigDict(json_schema_extra={"examples": [{"label": "cat"}]}, extra="forbid")


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
