"""The runs: the backend's SQL for the tables `trainings` and `epochs`, each statement with its purpose."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from uuid_utils.compat import uuid7

from backend.database import Database
from backend.errors import TooManyTrainings, TrainingEnded, UnknownTraining
from backend.schemas.trainings import Epoch, Training, TrainingRequest

# Its worker has not said for so long that it lives: it was killed, or has lost the database.
SILENT = "coalesce(seen_at, started_at) < now() - interval '20 seconds'"

COLUMNS = f"""id, recipe, seed, epochs, data, activation, status::text AS status, phase, device, model,
    error_title, error_detail, "timestamp", started_at, completed_at,
    status = 'running' AND {SILENT} AS silent"""

# Store an accepted training, unless too many wait or run; committed when it returns.
INSERT = f"""
INSERT INTO trainings (id, recipe, seed, epochs, data, activation, "timestamp")
SELECT CAST(:id AS uuid), CAST(:recipe AS text), CAST(:seed AS bigint), CAST(:epochs AS integer),
       CAST(:data AS text), CAST(:activation AS text), CAST(:timestamp AS timestamptz)
WHERE (SELECT count(*) FROM trainings WHERE status IN ('queued', 'running')) < CAST(:most AS integer)
RETURNING {COLUMNS}
"""

# One training, and the number of its latest epoch.
READ = f"""
SELECT {COLUMNS}, (SELECT max(number) FROM epochs WHERE training = trainings.id) AS measured
FROM trainings WHERE id = :id
"""

# Its epochs after one.
READ_EPOCHS = """
SELECT number, loss, accuracy, validation_accuracy, learning_rate, images_per_second, seconds_left,
       "timestamp"
FROM epochs WHERE training = :id AND number > :after ORDER BY number
"""

# A page, newest first.
LIST = f"""
SELECT {COLUMNS} FROM trainings
WHERE CAST(:older AS uuid) IS NULL OR id < CAST(:older AS uuid)
ORDER BY id DESC LIMIT :limit
"""

# Withdraw a training that has not ended; a worker that runs it sees that. Once a living worker publishes its
# model it is too late: the model may be served already.
CANCEL = f"""
UPDATE trainings SET status = 'canceled', completed_at = clock_timestamp()
WHERE id = :id AND (status = 'queued'
    OR status = 'running' AND (phase IS DISTINCT FROM 'publishing' OR {SILENT}))
RETURNING {COLUMNS}
"""

# How many wait or run.
COUNT_UNFINISHED = "SELECT count(*) AS unfinished FROM trainings WHERE status IN ('queued', 'running')"

# Rows whose message must be lost: queued for seconds though the queue is empty, handed back by a worker, or
# running without a word from one. While other messages wait the last two are said for a minute: more would
# only pile up.
LOST = f"""
SELECT id FROM trainings
WHERE status = 'queued' AND "timestamp" < now() - interval '5 seconds' AND CAST(:queue_is_empty AS boolean)
    OR status = 'queued' AND seen_at > now() - interval '60 seconds'
    OR status = 'running' AND {SILENT}
        AND (CAST(:queue_is_empty AS boolean)
             OR coalesce(seen_at, started_at) > now() - interval '80 seconds')
ORDER BY id
"""

STATEMENTS = {
    "INSERT": INSERT,
    "READ": READ,
    "READ_EPOCHS": READ_EPOCHS,
    "LIST": LIST,
    "CANCEL": CANCEL,
    "COUNT_UNFINISHED": COUNT_UNFINISHED,
    "LOST": LOST,
}

MAX_UNFINISHED = 20


@dataclass(frozen=True)
class Reading:
    """A training, and its epochs after one of them."""

    training: Training
    after: int
    epochs: list[Epoch]

    @property
    def last_epoch(self) -> int:
        return self.epochs[-1].number if self.epochs else self.after


class Trainings:
    """Reads and writes runs. Everything raises what Database.fetch does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._inserting = asyncio.Lock()

    async def insert(self, asked: TrainingRequest) -> Training:
        """Store a training; it is committed when this returns. Raises TooManyTrainings."""
        id = uuid7()
        timestamp = datetime.fromtimestamp((id.int >> 80) / 1000, UTC)
        values = {**asked.model_dump(), "id": id, "timestamp": timestamp, "most": MAX_UNFINISHED}
        async with self._inserting:  # or those that come together would not count one another
            rows = await self._database.fetch(INSERT, values)
        if not rows:
            detail = f"{MAX_UNFINISHED} trainings wait or run already; cancel one, or wait until one ends."
            raise TooManyTrainings(detail)
        return to_training(rows[0])

    async def read(self, id: UUID, after: int = 0) -> Reading:
        """A training with its epochs after one; with all epochs if that one is not stored.

        The training is read first: if it has ended, no epoch is missing. Raises UnknownTraining.
        """
        rows = await self._database.fetch(READ, {"id": id})
        if not rows:
            raise _unknown(id)
        after = after if after <= (rows[0].measured or 0) else 0
        epochs = await self._database.fetch(READ_EPOCHS, {"id": id, "after": after})
        found = [Epoch.model_validate(epoch, from_attributes=True) for epoch in epochs]
        return Reading(to_training(rows[0]), after, found)

    async def read_page(self, limit: int, older: UUID | None) -> list[Training]:
        """At most `limit`, newest first, of those older than one id."""
        rows = await self._database.fetch(LIST, {"limit": limit, "older": older})
        return [to_training(row) for row in rows]

    async def cancel(self, id: UUID) -> Training:
        """Withdraw a training; doing it twice does no harm. Raises UnknownTraining, TrainingEnded."""
        rows = await self._database.fetch(CANCEL, {"id": id})
        if rows:
            return to_training(rows[0])
        training = (await self.read(id)).training
        if training.status == "running":
            detail = "It is publishing its model, and will have ended in a moment."
            raise TrainingEnded(f"{detail} POST /api/models/VERSION/activate serves another model.")
        if training.status != "canceled":
            detail = f"It has {training.status} already; only a training that waits or runs can be canceled."
            raise TrainingEnded(f"{detail} POST /api/trainings starts another.")
        return training

    async def count_unfinished(self) -> int:
        (row,) = await self._database.fetch(COUNT_UNFINISHED)
        return row.unfinished

    async def find_lost(self, *, queue_is_empty: bool) -> list[UUID]:
        """The rows whose message must be lost, oldest first."""
        return [row.id for row in await self._database.fetch(LOST, {"queue_is_empty": queue_is_empty})]


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


def _unknown(id: UUID) -> UnknownTraining:
    return UnknownTraining(f"No training has the id {id}; GET /api/trainings lists those there are.")
