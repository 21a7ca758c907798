"""The values of one batch: the rows that it runs, and the outcome of each."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

SKIPPED = "skipped: already terminal, deleted, or claimed again"
"""Shown in the log if an outcome was not written; in Flower only for a message of one prediction."""


@dataclass(frozen=True)
class Row:
    """A prediction as it was read or claimed."""

    id: UUID
    pixels: bytes
    attempt: int
    """The attempt that its outcome must name. 0: the row was read and not claimed."""
    started_at: datetime
    """When it was read or claimed."""
    queue_ms: float
    """Time from its upload to `started_at`."""


@dataclass(frozen=True)
class Succeeded:
    """The model's answer for one row."""

    status: ClassVar = "succeeded"
    row: Row
    label: str
    confidence: float
    probabilities: str
    """JSON as the row stores it, the highest probability first."""
    energy: float
    unfamiliar: bool | None

    def __str__(self) -> str:
        return f"{self.label} {self.confidence:.1%}"


@dataclass(frozen=True)
class Failed:
    """Why one row has no label, in words for the user."""

    status: ClassVar = "failed"
    row: Row
    title: str
    detail: str

    def __str__(self) -> str:
        return self.detail


Outcome = Succeeded | Failed


@dataclass(frozen=True)
class ForwardPass:
    """The run of the model on a batch. If it raised, `predict_ms` includes the runs of the single images."""

    model: str
    batch_size: int
    predict_ms: float
