"""The values of one batch: the rows that it runs, and the outcome of each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

SKIPPED = "skipped: already terminal, deleted, or claimed again"
"""What is logged and shown for a prediction without an outcome."""


@dataclass(frozen=True)
class Row:
    """An unfinished prediction that this worker may run."""

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
    """JSON as the row stores it."""
    energy: float
    unfamiliar: bool | None

    @classmethod
    def rank(
        cls,
        row: Row,
        classes: Sequence[str],
        probabilities: NDArray[np.float32],
        energy: float,
        *,
        unfamiliar: bool | None,
    ) -> "Succeeded":
        """Build the outcome from `probabilities` (classes,), in the order of `classes`."""
        order = np.argsort(-probabilities, kind="stable")
        ranked = [(classes[int(index)], round(min(float(probabilities[index]), 1.0), 6)) for index in order]
        stored = [{"label": label, "probability": probability} for label, probability in ranked]
        label, confidence = ranked[0]
        return cls(row, label, confidence, json.dumps(stored), energy, unfamiliar)

    def __str__(self) -> str:
        return f"{self.label} {self.confidence:.1%}"


@dataclass(frozen=True)
class Failed:
    """Why one row has no label, in words for its user."""

    status: ClassVar = "failed"
    row: Row
    title: str
    detail: str

    def __str__(self) -> str:
        return self.detail


Outcome = Succeeded | Failed


@dataclass(frozen=True)
class ForwardPass:
    """One run of the model, for all rows of a batch."""

    model: str
    batch_size: int
    predict_ms: float
