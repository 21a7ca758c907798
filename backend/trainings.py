"""Trainings: the backend's SQL for the tables `trainings` and `epochs`."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from uuid_utils.compat import uuid7

from backend.database import Pool
from backend.errors import Refusal, ServiceError
from backend.schemas.trainings import Epoch, Training, TrainingRequest

# The worker has not updated the row for 20 s: the worker was killed, or cannot reach the database.
SILENT = "coalesce(seen_at, started_at) < now() - interval '20 seconds'"

COLUMNS = f"""id, recipe, seed, epochs, data, activation, status::text AS status, phase, device, model,
    error_title, error_detail, "timestamp", started_at, completed_at,
    status = 'running' AND {SILENT} AS silent"""

# Store an accepted training, unless too many are unfinished.
INSERT = f"""
INSERT INTO trainings (id, recipe, seed, epochs, data, activation, "timestamp")
SELECT CAST(:id AS uuid), CAST(:recipe AS text), CAST(:seed AS bigint), CAST(:epochs AS integer),
       CAST(:data AS text), CAST(:activation AS text), CAST(:timestamp AS timestamptz)
WHERE (SELECT count(*) FROM trainings WHERE status IN ('queued', 'running')) < CAST(:most AS integer)
RETURNING {COLUMNS}
"""

# One training, and the number of its latest epoch.
READ = f"""
SELECT {COLUMNS}, (SELECT max(number) FROM epochs WHERE training = trainings.id) AS latest_epoch
FROM trainings WHERE id = :id
"""

# The epochs of one training after a given one.
READ_EPOCHS = """
SELECT number, loss, accuracy, validation_accuracy, learning_rate, images_per_second, seconds_left,
       "timestamp"
FROM epochs WHERE training = :id AND number > :after ORDER BY number
"""

# A page of trainings, newest first.
LIST = f"""
SELECT {COLUMNS} FROM trainings
WHERE CAST(:older AS uuid) IS NULL OR id < CAST(:older AS uuid)
ORDER BY id DESC LIMIT :limit
"""

# Cancel an unfinished training; its worker then ends it. A training that a live worker is publishing
# cannot be canceled: its model may be served already.
CANCEL = f"""
UPDATE trainings SET status = 'canceled', completed_at = clock_timestamp()
WHERE id = :id AND (status = 'queued'
    OR status = 'running' AND (phase IS DISTINCT FROM 'publishing' OR {SILENT}))
RETURNING {COLUMNS}
"""

# The number of unfinished trainings.
COUNT_UNFINISHED = "SELECT count(*) AS unfinished FROM trainings WHERE status IN ('queued', 'running')"

# Unfinished rows whose message appears to be lost: (1) queued for 5 s, while the queue is empty; (2) set back
# to `queued` by a worker that shut down; (3) running with a silent worker. If the queue is not empty, rows of
# (2) and (3) are listed for one minute only, so that their messages do not pile up.
LOST = f"""
SELECT id FROM trainings
WHERE status = 'queued' AND "timestamp" < now() - interval '5 seconds' AND CAST(:queue_is_empty AS boolean)
    OR status = 'queued' AND seen_at > now() - interval '60 seconds'
    OR status = 'running' AND {SILENT}
        AND (CAST(:queue_is_empty AS boolean)
             OR coalesce(seen_at, started_at) > now() - interval '80 seconds')
ORDER BY id
"""

MAX_UNFINISHED = 20


@dataclass(frozen=True)
class Progress:
    """A training, and its epochs after the epoch `after`."""

    training: Training
    after: int
    epochs: list[Epoch]

    @property
    def last_epoch(self) -> int:
        return self.epochs[-1].number if self.epochs else self.after


class Trainings:
    """Reads and writes trainings. Methods raise what Pool.fetch raises."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._inserting = asyncio.Lock()

    async def insert(self, asked: TrainingRequest) -> Training:
        """Store a training. It is committed when this returns. Raises TOO_MANY_TRAININGS."""
        id = uuid7()
        timestamp = datetime.fromtimestamp((id.int >> 80) / 1000, UTC)  # the id begins with ms since 1970
        values = {**asked.model_dump(), "id": id, "timestamp": timestamp, "most": MAX_UNFINISHED}
        async with self._inserting:  # concurrent INSERTs would not count each other
            rows = await self._pool.fetch(INSERT, values)
        if not rows:
            detail = f"{MAX_UNFINISHED} trainings are unfinished. Cancel one, or wait until one ends."
            raise ServiceError(Refusal.TOO_MANY_TRAININGS, detail)
        return to_training(rows[0])

    async def read(self, id: UUID, after: int = 0) -> Progress:
        """A training with its epochs after the epoch `after`, or with all epochs if that epoch is not stored.

        The training is read before its epochs: if it has ended, no epoch is missing. Raises UNKNOWN_TRAINING.
        """
        rows = await self._pool.fetch(READ, {"id": id})
        if not rows:
            detail = f"No training has the id {id}. GET /api/trainings lists all trainings."
            raise ServiceError(Refusal.UNKNOWN_TRAINING, detail)
        after = after if after <= (rows[0].latest_epoch or 0) else 0
        epochs = await self._pool.fetch(READ_EPOCHS, {"id": id, "after": after})
        found = [Epoch.model_validate(epoch, from_attributes=True) for epoch in epochs]
        return Progress(to_training(rows[0]), after, found)

    async def read_page(self, limit: int, older: UUID | None) -> list[Training]:
        """At most `limit` trainings, newest first; with `older`, only those older than that training."""
        rows = await self._pool.fetch(LIST, {"limit": limit, "older": older})
        return [to_training(row) for row in rows]

    async def cancel(self, id: UUID) -> Training:
        """Cancel a training (idempotent). Raises UNKNOWN_TRAINING, TRAINING_ENDED, TRAINING_PUBLISHING."""
        rows = await self._pool.fetch(CANCEL, {"id": id})
        if rows:
            return to_training(rows[0])
        training = (await self.read(id)).training
        if training.status == "queued":  # its worker set it back to `queued` after CANCEL
            return await self.cancel(id)
        if training.status == "running":
            detail = (
                "The training can no longer be canceled and ends in a moment. "
                "Use POST /api/models/VERSION/activate to serve another model."
            )
            raise ServiceError(Refusal.TRAINING_PUBLISHING, detail)
        if training.status != "canceled":
            detail = f"The training has already {training.status}. Use POST /api/trainings to start another."
            raise ServiceError(Refusal.TRAINING_ENDED, detail)
        return training

    async def count_unfinished(self) -> int:
        (row,) = await self._pool.fetch(COUNT_UNFINISHED)
        return row.unfinished

    async def find_lost(self, *, queue_is_empty: bool) -> list[UUID]:
        """The unfinished trainings whose message appears to be lost, oldest first."""
        return [row.id for row in await self._pool.fetch(LOST, {"queue_is_empty": queue_is_empty})]


def to_training(row: Row[Any]) -> Training:
    """A row as the API shows it."""
    place = f"/api/trainings/{row.id}"
    error = {"title": row.error_title, "detail": row.error_detail or ""} if row.error_title else None
    urls = {
        "self": place,
        "events": f"{place}/events",
        "cancel": f"{place}/cancel",
        "model": f"/api/models/{row.model}" if row.model else None,
    }
    return Training.model_validate({**row._asdict(), "error": error, "urls": urls})
