"""Request and response types of trainings."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from backend.schemas import Failure, Status

MAX_EPOCHS = 1000
# The name of a data set, or the version of a model: a file name without a path.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

EXAMPLE_ID = "019a0c61-02d4-7f3e-8a6b-5c1d9e7f2b30"
EXAMPLE_URL = f"/api/trainings/{EXAMPLE_ID}"

Recipe = Literal["fast", "balanced", "accurate"]
Activation = Literal["better", "always", "never"]


class TrainingRequest(BaseModel):
    """What to train. Every member is optional."""

    recipe: Recipe = Field("fast", description="`balanced` and `accurate` take longer and are more accurate.")
    seed: int = Field(
        0, ge=0, lt=2**31, description="Trainings of the same recipe, data and seed start from equal weights."
    )
    epochs: int | None = Field(None, ge=1, le=MAX_EPOCHS, description="Null: as many as the recipe says.")
    data: str | None = Field(
        None,
        pattern=NAME,
        description="A name in the worker's folder of data sets (`DATA_SETS`). Null: CIFAR-10.",
    )
    activation: Activation = Field(
        "better",
        description="Activate the model `always`, `never`, or if it is `better` than the active one.",
    )

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"recipe": "accurate", "seed": 7, "activation": "never"}]},
    )


class TrainingUrls(BaseModel):
    self: str = Field(examples=[EXAMPLE_URL])
    events: str = Field(examples=[f"{EXAMPLE_URL}/events"])
    cancel: str = Field(examples=[f"{EXAMPLE_URL}/cancel"])
    model: str | None = Field(description="The published model.", examples=[None])


class Training(BaseModel):
    """One training."""

    id: UUID = Field(description="UUID version 7, sorts by time.", examples=[EXAMPLE_ID])
    recipe: str = Field(examples=["fast"])
    seed: int
    epochs: int | None = Field(description="The total number of epochs; null until a worker knows it.")
    data: str | None = Field(description="The name of the data set. Null: CIFAR-10.", examples=[None])
    activation: Activation
    status: Status = Field(examples=["running"])
    phase: str | None = Field(description="What the training does: reading, training, evaluating, …")
    device: str | None = Field(description="The device that trains.")
    silent: bool = Field(
        description="The worker has been silent for 20 s. A free worker resumes the training."
    )
    model: str | None = Field(description="The version of the published model.", examples=[None])
    error: Failure | None = Field(examples=[None])
    timestamp: datetime = Field(description="When the training was accepted.")
    started_at: datetime | None
    completed_at: datetime | None
    urls: TrainingUrls


class Epoch(BaseModel):
    """One measured pass over the training images."""

    number: int = Field(description="From 1.")
    loss: float = Field(description="Mean cross-entropy of the images that were trained on.")
    accuracy: float = Field(description="On the augmented training images.")
    validation_accuracy: float = Field(description="On the held-out images.")
    learning_rate: float = Field(description="Of the convolution filters, at the end of the epoch.")
    images_per_second: float
    seconds_left: float = Field(description="Estimated time until the end of the last epoch.")
    timestamp: datetime


class TrainingDetail(Training):
    """One training with its curve."""

    curve: list[Epoch] = Field(description="The epochs so far, in order.")


class TrainingPage(BaseModel):
    """A page of the trainings, newest first."""

    results: list[Training]
    next: str | None = Field(description="The `cursor` of the page with older trainings.")
