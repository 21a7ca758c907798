"""What the worker knows of a run and of a published model, and the errors that end an attempt of a run.

`celery_worker.errors.Stopped` also ends an attempt: the worker shuts down, and the run returns to the queue.
"""

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
    """Starts at 1. A run whose attempt is above MAX_ATTEMPTS fails."""


@dataclass(frozen=True)
class Model:
    """A published model that an inference worker has found."""

    error: str | None
    awaited: bool
    """It is the active version, and no worker serves it yet."""


class TrainingFailed(Exception):
    """The run fails. `title` says what happened, the text says why and what to do."""

    def __init__(self, title: str, detail: str) -> None:
        super().__init__(detail)
        self.title = title


class Lost(Exception):
    """The run is canceled, deleted, or claimed by another attempt. This attempt must not change the row."""
