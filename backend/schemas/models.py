"""The shapes of models: what inference workers found in the folder of models."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field


class Picture(BaseModel):
    name: Annotated[str, Field(description="learning-curve, confusion, reliability or mistakes.")]
    url: str


class ModelUrls(BaseModel):
    self: str
    card: Annotated[str, Field(description="The same address: the whole card is in it.")]
    activate: str


class Model(BaseModel):
    """One published version. What its card does not say, or says in no usable form, is null."""

    version: str
    active: Annotated[bool, Field(description="The one that is, or is about to be, served.")]
    error: Annotated[str | None, Field(description="Why it cannot be served.")]
    found_at: datetime
    activated_at: Annotated[datetime | None, Field(description="When it was last made the one to serve.")]
    served_at: Annotated[datetime | None, Field(description="When a worker last began to serve it.")]
    accuracy: Annotated[float | None, Field(description="On the test images, one view, as served.")]
    calibration_error: Annotated[
        float | None, Field(description="How far the confidence is from the share that is right, on average.")
    ]
    classes: list[str] | None
    training: Annotated[
        dict[str, Any] | None, Field(description="How it was trained, from its card, without the curve.")
    ]
    data: Annotated[dict[str, Any] | None, Field(description="What it was trained and tested on.")]
    pictures: list[Picture]
    urls: ModelUrls


class ModelDetail(Model):
    """One published version with its whole card."""

    card: Annotated[Any, Field(description="card.json as it was published; null when it cannot be shown.")]


class ModelList(BaseModel):
    """Every version, the latest found first."""

    results: list[Model]
