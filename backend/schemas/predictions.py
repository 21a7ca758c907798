"""The models of predictions."""

from datetime import datetime
from functools import cached_property
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from backend.schemas import Failure, Status

EXAMPLE_ID = "019a0c5e-7a3b-7c11-9d52-0f6f3b8e2a41"


class Entry(BaseModel):
    """What an upload answers for one file."""

    @cached_property
    def encoded(self) -> str:
        """The JSON, encoded once for all who read it."""
        return self.model_dump_json()


class LabelProbability(BaseModel):
    label: str
    probability: Annotated[float, Field(ge=0, le=1)]


class PredictionMetrics(BaseModel):
    queue_ms: Annotated[
        float | None, Field(description="From acceptance to the start of the latest attempt.")
    ]
    batch_size: Annotated[int | None, Field(description="Number of images in the batch.")]
    predict_ms: Annotated[float | None, Field(description="Time of the forward pass of the batch.")]


class Urls(BaseModel):
    self: str
    events: str
    image: str


class Prediction(Entry):
    """One uploaded image and its outcome."""

    id: Annotated[UUID, Field(description="UUID version 7, sorts by time.")]
    filename: str
    status: Status
    prediction: Annotated[str | None, Field(description="The label with the highest probability.")]
    confidence: Annotated[float | None, Field(ge=0, le=1, description="The probability of that label.")]
    probabilities: Annotated[list[LabelProbability], Field(description="Every label, highest first.")]
    model: Annotated[str | None, Field(description="The version of the model that classified the image.")]
    energy: Annotated[
        float | None,
        Field(description="Minus the log-sum-exp of the logits. Higher values are less familiar."),
    ]
    unfamiliar: Annotated[
        bool | None,
        Field(description="Probably none of the classes; null if the model has no threshold."),
    ]
    error: Failure | None
    timestamp: Annotated[datetime, Field(description="When the upload was accepted.")]
    started_at: datetime | None
    completed_at: datetime | None
    metrics: PredictionMetrics
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
    """Feedback of a person on a prediction."""

    label: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=100,
            pattern=r"^[^\x00-\x1f\x7f]*$",
            description="Null removes the feedback.",
        ),
    ]

    model_config = ConfigDict(json_schema_extra={"examples": [{"label": "cat"}]}, extra="forbid")


class Refused(Entry):
    """A refused file. Nothing of it is stored."""

    filename: str
    error: Failure


class PredictionBatch(BaseModel):
    """The answer to several files: one entry for each file, in the order sent."""

    predictions: list[Prediction | Refused]


class PredictionPage(BaseModel):
    """A page of the history, newest first."""

    results: list[Prediction]
    next: Annotated[str | None, Field(description="The `cursor` of the page with older predictions.")]
    previous: Annotated[str | None, Field(description="The `cursor` of the page with newer predictions.")]
