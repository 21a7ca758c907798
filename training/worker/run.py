"""What the worker knows of a run and of a published model."""

from dataclasses import dataclass
from uuid import UUID

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Run:
    """A claimed row: what to train, and the attempt that every update of the row must name."""

    id: UUID
    recipe: str
    seed: int
    epochs: int | None
    data: str | None
    activation: str
    attempt: int
    """From 1. A run whose attempt would be above MAX_ATTEMPTS fails."""


@dataclass(frozen=True)
class Model:
    """A published model that an inference worker has found."""

    error: str | None
    awaited: bool
    """It is the model to serve, and no worker serves it yet."""
