"""The shapes of trainings: what is asked for, the run, its curve."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from backend.schemas import Failure, Status

MAX_EPOCHS = 1000
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # of a data set and of a model's version: a file name, no path

EXAMPLE_ID = "019a0c61-02d4-7f3e-8a6b-5c1d9e7f2b30"

Recipe = Literal["fast", "balanced", "accurate"]
Activation = Literal["better", "always", "never"]


class TrainingRequest(BaseModel):
    """What to train; every member may be left out."""

    recipe: Annotated[
        Recipe, Field(description="`balanced` and `accurate` take longer, and are worth more.")
    ] = "fast"
    seed: Annotated[int, Field(ge=0, lt=2**31, description="The same seed starts from the same weights.")] = 0
    epochs: Annotated[
        int | None, Field(ge=1, le=MAX_EPOCHS, description="Null: as many as the recipe has.")
    ] = None
    data: Annotated[
        str | None,
        Field(pattern=NAME, description="A name in the worker's folder of data sets. Null: CIFAR-10."),
    ] = None
    activation: Annotated[
        Activation,
        Field(description="Serve its model if it is `better` than the one served, `always` or `never`."),
    ] = "better"

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"recipe": "accurate", "seed": 7, "activation": "never"}]},
    )


class TrainingUrls(BaseModel):
    self: str
    events: str
    cancel: str
    model: Annotated[str | None, Field(description="Of the model, once it is published.")]


class Training(BaseModel):
    """One run of the training service."""

    id: Annotated[UUID, Field(description="Version 7: sorts by time.")]
    recipe: str
    seed: int
    epochs: Annotated[int | None, Field(description="In all; null until a worker knows.")]
    data: Annotated[str | None, Field(description="The data set's name; null is CIFAR-10.")]
    activation: Activation
    status: Status
    phase: Annotated[str | None, Field(description="What it does: reading, training, evaluating, …")]
    device: Annotated[str | None, Field(description="Where it runs.")]
    silent: Annotated[
        bool, Field(description="It runs, but its worker has said nothing for 20 s; another goes on with it.")
    ]
    model: Annotated[str | None, Field(description="Version of the model that it published.")]
    error: Failure | None
    timestamp: Annotated[datetime, Field(description="When it was accepted.")]
    started_at: datetime | None
    completed_at: datetime | None
    urls: TrainingUrls

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": EXAMPLE_ID,
                    "recipe": "fast",
                    "seed": 0,
                    "epochs": 8,
                    "data": None,
                    "activation": "better",
                    "status": "running",
                    "phase": "training",
                    "device": "NVIDIA H100 80GB HBM3",
                    "silent": False,
                    "model": None,
                    "error": None,
                    "timestamp": "2026-11-24T08:20:00.000Z",
                    "started_at": "2026-11-24T08:20:00.041Z",
                    "completed_at": None,
                    "urls": {
                        "self": f"/api/trainings/{EXAMPLE_ID}",
                        "events": f"/api/trainings/{EXAMPLE_ID}/events",
                        "cancel": f"/api/trainings/{EXAMPLE_ID}/cancel",
                        "model": None,
                    },
                }
            ]
        }
    )


class Epoch(BaseModel):
    """One measured pass over the training images."""

    number: Annotated[int, Field(description="From 1.")]
    loss: Annotated[float, Field(description="Mean cross-entropy an image, on what was trained on.")]
    accuracy: Annotated[float, Field(description="On the augmented images that were trained on.")]
    validation_accuracy: Annotated[float, Field(description="On the held-out part of the training images.")]
    learning_rate: Annotated[float, Field(description="At the epoch's end.")]
    images_per_second: float
    seconds_left: Annotated[float, Field(description="Until the last epoch's end, estimated.")]
    timestamp: datetime


class TrainingDetail(Training):
    """One run with its curve."""

    curve: Annotated[list[Epoch], Field(description="The epochs so far, in order.")]


class TrainingPage(BaseModel):
    """A page of the trainings, newest first."""

    results: list[Training]
    next: Annotated[str | None, Field(description="Pass as `cursor` for the page of older ones.")]
