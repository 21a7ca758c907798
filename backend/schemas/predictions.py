"""Request and response types of predictions."""

from datetime import datetime
from functools import cached_property
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from backend.schemas import Failure, Status

EXAMPLE_ID = "019a0c5e-7a3b-7c11-9d52-0f6f3b8e2a41"
EXAMPLE_URL = f"/api/predictions/{EXAMPLE_ID}"


class EncodedOnce(BaseModel):
    """A response type whose JSON is encoded once."""

    @cached_property
    def encoded(self) -> str:
        """The JSON, encoded once for all readers."""
        return self.model_dump_json()


class LabelProbability(BaseModel):
    label: str = Field(examples=["cat"])
    probability: float = Field(ge=0, le=1)


class PredictionMetrics(BaseModel):
    queue_ms: float | None = Field(description="From acceptance to the start of the latest attempt.")
    batch_size: int | None = Field(description="Number of images in the batch.")
    predict_ms: float | None = Field(description="Time of the forward pass of the batch.")


class Urls(BaseModel):
    self: str = Field(examples=[EXAMPLE_URL])
    events: str = Field(examples=[f"{EXAMPLE_URL}/events"])
    image: str = Field(examples=[f"{EXAMPLE_URL}/image"])


class Prediction(EncodedOnce):
    """One uploaded image and its outcome."""

    id: UUID = Field(description="UUID version 7, sorts by time.", examples=[EXAMPLE_ID])
    filename: str = Field(examples=["cat.png"])
    status: Status = Field(examples=["succeeded"])
    prediction: str | None = Field(description="The label with the highest probability.", examples=["cat"])
    confidence: float | None = Field(ge=0, le=1, description="The probability of that label.")
    probabilities: list[LabelProbability] = Field(
        description="Every class with its probability, the highest first."
    )
    model: str | None = Field(
        description="The version of the model that classified the image.", examples=["2026-11-24-1f0c9a7b"]
    )
    energy: float | None = Field(
        description="Minus the log-sum-exp of the calibrated logits. High: the image is unfamiliar."
    )
    unfamiliar: bool | None = Field(
        description="Probably none of the classes. Null if the model gave no answer or has no threshold.",
        examples=[False],
    )
    error: Failure | None = Field(examples=[None])
    timestamp: datetime = Field(description="When the upload was accepted.")
    started_at: datetime | None
    completed_at: datetime | None
    metrics: PredictionMetrics
    feedback: str | None = Field(description="The correct label, if a person has given one.", examples=[None])
    urls: Urls


class Feedback(BaseModel):
    """Feedback of a person on a prediction."""

    label: str | None = Field(
        min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$", description="Null removes the feedback."
    )

    model_config = ConfigDict(json_schema_extra={"examples": [{"label": "cat"}]}, extra="forbid")


class Refused(EncodedOnce):
    """A refused file. Nothing of it is stored."""

    filename: str
    error: Failure


class UploadAnswer(BaseModel):
    """The answer to several files: one entry for each file, in the order sent."""

    predictions: list[Prediction | Refused]


class PredictionPage(BaseModel):
    """A page of the history, newest first."""

    results: list[Prediction]
    next: str | None = Field(description="The `cursor` of the page with older predictions.")
    previous: str | None = Field(description="The `cursor` of the page with newer predictions.")
