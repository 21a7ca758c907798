"""Response types of published versions."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class Picture(BaseModel):
    name: str = Field(description="learning-curve, confusion, reliability or mistakes.")
    url: str


class ModelUrls(BaseModel):
    self: str
    card: str = Field(description="The same address as `self`, whose answer includes the card.")
    activate: str


class Model(BaseModel):
    """One published version. Members that its card lacks, or that are malformed there, are null."""

    version: str
    active: bool = Field(description="Whether workers serve this version, or are about to load it.")
    error: str | None = Field(description="Why the model cannot be served.")
    found_at: datetime
    activated_at: datetime | None = Field(description="When the model was last activated.")
    served_at: datetime | None = Field(description="When a worker last began to serve the model.")
    accuracy: float | None = Field(description="Accuracy of the float32 model on the test images.")
    calibration_error: float | None = Field(description="Mean difference between confidence and accuracy.")
    classes: list[str] | None
    training: dict[str, Any] | None = Field(
        description="How the model was trained, from its card, without the curve."
    )
    data: dict[str, Any] | None = Field(description="The data set: name, counts, what was left out, hashes.")
    pictures: list[Picture]
    urls: ModelUrls


class ModelDetail(Model):
    """One published version with its whole card."""

    card: Any = Field(
        description="The card; `{}` if the version was refused when found; null if it is nested too deeply."
    )


class ModelList(BaseModel):
    """Every version, newest first."""

    results: list[Model]
