"""Rows of the table `trainings`, as the worker sees them.

A statement that finds the database away waits for it and tries again: the child process trains on
meanwhile, and what it says waits in its pipe.
"""

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from training.errors import Lost, Stopped

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
STALE_SECONDS = 15.0  # a worker that has not said for so long that it lives has lost its run
RETRY_SECONDS = 1.0
# A server that vanished without a word is noticed.
TIMEOUTS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}

# Take a run that is queued, or whose worker fell silent; one that has used up its attempts fails instead.
CLAIM = """
UPDATE trainings SET
    status = (CASE WHEN attempt < $2 THEN 'running' ELSE 'failed' END)::training_status,
    phase = NULL,
    started_at = coalesce(started_at, clock_timestamp()),
    seen_at = clock_timestamp(),
    completed_at = CASE WHEN attempt < $2 THEN NULL ELSE clock_timestamp() END,
    error_title = CASE WHEN attempt < $2 THEN NULL ELSE 'Given up' END,
    error_detail = CASE WHEN attempt < $2 THEN NULL
        ELSE 'The worker stopped ' || attempt || ' times while it ran this training; start another, and '
             'look at the worker''s log if that stops it, too.' END,
    attempt = least(attempt + 1, $2)
WHERE id = $1
    AND (status = 'queued' OR status = 'running' AND seen_at < clock_timestamp() - $3 * interval '1 second')
RETURNING id, recipe, seed, epochs, data, activation, attempt, error_title, error_detail
"""

# Whether the run is still this attempt's.
LOOK = """
SELECT id FROM trainings WHERE id = $1 AND attempt = $2 AND status = 'running'
"""

# The same, and say that its worker lives.
SEEN = """
UPDATE trainings SET seen_at = clock_timestamp()
WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING id
"""

# Keep what a run says of itself: how long it will be, where it runs, what it does.
DESCRIBE = """
UPDATE trainings SET
    epochs = coalesce($3::integer, epochs), device = coalesce($4, device), phase = coalesce($5, phase)
WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING id
"""

# Keep one measured epoch; one that a resumed run measures again changes nothing.
EPOCH = """
WITH mine AS (SELECT id FROM trainings WHERE id = $1 AND attempt = $2 AND status = 'running'),
added AS (
    INSERT INTO epochs (training, number, loss, accuracy, validation_accuracy, learning_rate,
                        images_per_second, seconds_left)
    SELECT id, $3, $4, $5, $6, $7, $8, $9 FROM mine
    ON CONFLICT (training, number) DO NOTHING)
SELECT id FROM mine
"""

# Tell the inference workers to look for new models now, instead of within a second.
ANNOUNCE = """
SELECT pg_notify('models', '')
"""

# What has become of a published model: refused, and why; or whether it must still be waited for.
MODEL = """
SELECT error, activated_at IS NOT NULL AND (served_at IS NULL OR served_at < activated_at)
    AND version = (SELECT version FROM models WHERE error IS NULL AND activated_at IS NOT NULL
                   ORDER BY activated_at DESC LIMIT 1)
FROM models WHERE version = $1
"""

# Write a run's outcome: the version that it published, or an error.
FINISH = """
UPDATE trainings SET
    status = (CASE WHEN $3::text IS NULL THEN 'failed' ELSE 'succeeded' END)::training_status,
    model = $3, error_title = $4, error_detail = $5, phase = NULL, completed_at = clock_timestamp()
WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING id
"""

# Put a run back to the queue; a worker that was told to stop has not used up an attempt. `seen_at` tells the
# relay that its message is gone.
HAND_BACK = """
UPDATE trainings SET status = 'queued', phase = NULL, seen_at = clock_timestamp(), attempt = attempt - 1
WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING id
"""

# Which of these runs are not at their end.
UNFINISHED = """
SELECT id FROM trainings WHERE id = ANY($1::uuid[]) AND status IN ('queued', 'running')
"""

STATEMENTS: dict[str, LiteralString] = {
    "CLAIM": CLAIM,
    "LOOK": LOOK,
    "SEEN": SEEN,
    "DESCRIBE": DESCRIBE,
    "EPOCH": EPOCH,
    "ANNOUNCE": ANNOUNCE,
    "MODEL": MODEL,
    "FINISH": FINISH,
    "HAND_BACK": HAND_BACK,
    "UNFINISHED": UNFINISHED,
}

FIGURES = ("loss", "accuracy", "validation_accuracy", "learning_rate", "images_per_second", "seconds_left")


@dataclass(frozen=True)
class Run:
    """A claimed row: what to train, and the attempt that all it says must name."""

    id: UUID
    recipe: str
    seed: int
    epochs: int | None
    data: str | None
    activation: str
    attempt: int
    error_title: str | None = None
    """Set when its attempts are used up: the claim has made the row fail, and it must not run."""
    error_detail: str | None = None


@dataclass(frozen=True)
class Found:
    """A published model that an inference worker has found."""

    error: str | None
    awaited: bool
    """It is the one to serve, and no worker serves it yet."""


class Database:
    """The worker's connection, for one thread. What is said for a lost attempt raises Lost."""

    def __init__(self, url: str, stopping: threading.Event) -> None:
        self._url = url
        self._stopping = stopping
        self._connection: psycopg.Connection[Any] | None = None

    def claim(self, id: UUID) -> Run | None:
        """The row, if it may be run, or has just failed because its attempts are used up."""
        rows = self._execute(CLAIM, id, MAX_ATTEMPTS, STALE_SECONDS)
        return Run(*rows[0]) if rows else None

    def look(self, run: Run) -> None:
        self._say(LOOK, run)

    def seen(self, run: Run) -> None:
        self._say(SEEN, run)

    def describe(
        self, run: Run, epochs: int | None = None, device: str | None = None, phase: str | None = None
    ) -> None:
        self._say(DESCRIBE, run, epochs, device, phase)

    def add_epoch(self, run: Run, epoch: Mapping[str, Any]) -> None:
        self._say(EPOCH, run, int(epoch["number"]), *(float(epoch[name]) for name in FIGURES))

    def succeed(self, run: Run, version: str) -> None:
        self._say(FINISH, run, version, None, None)

    def fail(self, run: Run, title: str, detail: str) -> None:
        self._say(FINISH, run, None, title, detail)

    def hand_back(self, run: Run) -> None:
        self._say(HAND_BACK, run)

    def announce(self) -> None:
        self._execute(ANNOUNCE)

    def find_model(self, version: str) -> Found | None:
        rows = self._execute(MODEL, version)
        return Found(*rows[0]) if rows else None

    def unfinished(self, ids: Collection[UUID]) -> set[UUID]:
        return {id for (id,) in self._execute(UNFINISHED, list(ids))}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _say(self, statement: LiteralString, run: Run, *values: Any) -> None:
        if not self._execute(statement, run.id, run.attempt, *values):
            raise Lost(f"{run.id} is canceled, deleted or claimed again")

    def _execute(self, statement: LiteralString, *parameters: Any) -> Sequence[tuple[Any, ...]]:
        """Run one statement. Raises Stopped when the database is away and the worker is to end."""
        while True:
            try:
                return self._open().execute(statement, parameters, prepare=True).fetchall()
            except psycopg.OperationalError as error:
                logger.warning("the database is away, trying again: %s", str(error).strip())
                self.close()
                if self._stopping.wait(RETRY_SECONDS):
                    raise Stopped from error

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._url,
                autocommit=True,
                cursor_factory=psycopg.RawCursor,
                application_name="training",
                **TIMEOUTS,  # pyright: ignore[reportArgumentType]
            )
        return self._connection
