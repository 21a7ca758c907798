"""The rows: the backend's SQL for the table `predictions`, each statement with its purpose."""

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from uuid_utils.compat import uuid7

from backend.database import Database, DirectConnection
from backend.errors import PredictionEnded, UnknownPrediction
from backend.schemas.predictions import Prediction

logger = logging.getLogger(__name__)

COLUMNS = """id, filename, status::text AS status, prediction, confidence,
    probabilities::text AS probabilities, model, energy, unfamiliar, error_title, error_detail, "timestamp",
    started_at, completed_at, batch_size, predict_ms, feedback"""

# Store accepted uploads; committed when it returns.
INSERT = """
INSERT INTO predictions (id, filename, "timestamp", pixels, bulk)
SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:filenames AS text[]), CAST(:timestamps AS timestamptz[]),
                     CAST(:pixels AS bytea[]), CAST(:bulk AS boolean[]))
"""

# Withdraw a prediction that has not ended; what a worker makes of it then changes nothing.
CANCEL = f"""
UPDATE predictions SET status = 'canceled', completed_at = clock_timestamp()
WHERE id = :id AND status IN ('queued', 'running')
RETURNING {COLUMNS}
"""

# Remove a prediction with its pixels.
DELETE = "DELETE FROM predictions WHERE id = :id RETURNING id"

# Keep the label that a person says is right, or none.
SET_FEEDBACK = f"UPDATE predictions SET feedback = :label WHERE id = :id RETURNING {COLUMNS}"

# One prediction, and the number of the latest event of all.
READ = f"SELECT {COLUMNS}, (SELECT max(number) FROM events) AS latest FROM predictions WHERE id = :id"

# What the model saw of one prediction.
READ_PIXELS = "SELECT pixels FROM predictions WHERE id = :id"

# How many wait or run: from 5,000 on it is an estimate, 8 times those in an eighth of the rows. A count of
# 50,000 would take 8 ms.
COUNT_UNFINISHED = """
SELECT CASE WHEN counted < 5000 THEN counted ELSE (
    SELECT 8 * count(*) FROM predictions
    WHERE status IN ('queued', 'running') AND get_byte(uuid_send(id), 15) < 32) END AS unfinished
FROM (SELECT count(*) AS counted FROM (
    SELECT FROM predictions WHERE status IN ('queued', 'running') LIMIT 5000) AS first) AS count
"""

# Rows whose message appears to be lost, among the oldest unfinished ones of one queue. They are queued for
# seconds though the queue is empty and no worker has started a row of it lately; or though a row of the queue
# that is seconds younger was started; or they run for longer than any batch can. Workers take a queue's rows
# in order, so a row that has lost its message is soon among the oldest. Workers hold messages that they have
# not begun yet, so an empty queue alone proves nothing. What was started lately is read from the latest
# events: the newest started row can lie behind 50,000 queued ones.
LOST = """
WITH started AS MATERIALIZED (
    SELECT max("timestamp") AS youngest,
           coalesce(max(started_at) > now() - interval '5 seconds', false) AS lately
    FROM (SELECT prediction_id FROM events ORDER BY number DESC LIMIT 1000) AS event
    JOIN predictions ON id = prediction_id
    WHERE bulk = :bulk AND started_at IS NOT NULL)
SELECT id FROM started, (
    SELECT id, status, "timestamp", started_at FROM predictions
    WHERE status IN ('queued', 'running') AND bulk = :bulk AND id > :after ORDER BY id LIMIT :most) AS oldest
WHERE status = 'queued' AND "timestamp" < now() - interval '5 seconds'
        AND (CAST(:queue_is_empty AS boolean) AND NOT lately OR "timestamp" < youngest - interval '5 seconds')
    OR status = 'running' AND started_at < now() - interval '60 seconds'
ORDER BY id
"""

STATEMENTS = {
    "INSERT": INSERT,
    "CANCEL": CANCEL,
    "DELETE": DELETE,
    "SET_FEEDBACK": SET_FEEDBACK,
    "READ": READ,
    "READ_PIXELS": READ_PIXELS,
    "COUNT_UNFINISHED": COUNT_UNFINISHED,
    "LOST": LOST,
}

MAX_ROWS_PER_INSERT = 512
GATHER_SECONDS = 0.01
LOST_PAGE = 2000

# What is shown in place of malformed details.
UNREADABLE: dict[str, Any] = {
    "probabilities": [],
    "energy": None,
    "unfamiliar": None,
    "error": {
        "title": "Stored answer not readable",
        "detail": "The database holds malformed details of this prediction; the backend's log says which. "
        "Upload the image again.",
    },
    "started_at": None,
    "metrics": {"queue_ms": None, "batch_size": None, "predict_ms": None},
}


@dataclass(frozen=True)
class NewPrediction:
    """A row to insert. Its id carries its time."""

    id: UUID
    filename: str
    pixels: bytes
    bulk: bool
    """Of a request with several files: its message lets those of single files go first."""

    @classmethod
    def create(cls, filename: str, pixels: bytes, *, bulk: bool) -> "NewPrediction":
        return cls(uuid7(), filename, pixels, bulk)

    @property
    def timestamp(self) -> datetime:
        return datetime.fromtimestamp((self.id.int >> 80) / 1000, UTC)


class Predictions:
    """Reads and writes rows. Everything raises what Database.fetch does.

    `inserting` stores the uploads; `none_decoding` is set while no other file is being decoded.
    """

    def __init__(self, database: Database, inserting: DirectConnection, none_decoding: asyncio.Event) -> None:
        self._database = database
        self._inserting = inserting
        self._none_decoding = none_decoding
        self._waiting: list[tuple[Sequence[NewPrediction], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def insert(self, rows: Sequence[NewPrediction]) -> None:
        """Store rows; they are committed when this returns.

        Rows of requests that arrive together are written together. While one INSERT runs, the next collects.
        It waits for files that are being decoded at that moment, 10 ms at most: photos are decoded one after
        another. A lone request waits for nothing.
        """
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, stored))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_waiting())
        await stored

    async def cancel(self, id: UUID) -> Prediction:
        """Withdraw a prediction; doing it twice does no harm. Raises UnknownPrediction, PredictionEnded."""
        if rows := await self._database.fetch(CANCEL, {"id": id}):
            return to_prediction(rows[0])
        prediction, _ = await self.read(id)
        if prediction.status != "canceled":
            raise PredictionEnded(f"It has {prediction.status} already; DELETE removes it from the history.")
        return prediction

    async def delete(self, id: UUID) -> None:
        """Remove a prediction, in whatever status. Raises UnknownPrediction."""
        if not await self._database.fetch(DELETE, {"id": id}):
            raise _unknown(id)

    async def set_feedback(self, id: UUID, label: str | None) -> Prediction:
        """Keep the label that a person says is right. Raises UnknownPrediction."""
        rows = await self._database.fetch(SET_FEEDBACK, {"id": id, "label": label})
        if not rows:
            raise _unknown(id)
        return to_prediction(rows[0])

    async def read(self, id: UUID) -> tuple[Prediction, int]:
        """A prediction, and the number of the latest event of all. Raises UnknownPrediction."""
        rows = await self._database.fetch(READ, {"id": id})
        if not rows:
            raise _unknown(id)
        return to_prediction(rows[0]), rows[0].latest or 0

    async def read_pixels(self, id: UUID) -> bytes:
        """The stored 32 x 32 x 3 bytes. Raises UnknownPrediction."""
        rows = await self._database.fetch(READ_PIXELS, {"id": id})
        if not rows:
            raise _unknown(id)
        return rows[0].pixels

    async def count_unfinished(self) -> int:
        (row,) = await self._database.fetch(COUNT_UNFINISHED)
        return row.unfinished

    async def find_lost(self, *, bulk: bool, queue_is_empty: bool) -> list[UUID]:
        """The rows of one queue whose message appears to be lost, oldest first."""
        lost: list[UUID] = []
        while True:
            after = lost[-1] if lost else UUID(int=0)
            parameters = {"bulk": bulk, "queue_is_empty": queue_is_empty, "after": after, "most": LOST_PAGE}
            found = await self._database.fetch(LOST, parameters)
            lost += [row.id for row in found]
            if len(found) < LOST_PAGE:
                return lost

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                with suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_SECONDS):
                        await self._none_decoding.wait()
                group, self._waiting = self._waiting, []
                await self._write(group)
        finally:
            self._writer = None

    async def _write(self, group: list[tuple[Sequence[NewPrediction], asyncio.Future[None]]]) -> None:
        rows = [row for rows, _ in group for row in rows]
        failure: Exception | None = None
        try:
            for start in range(0, len(rows), MAX_ROWS_PER_INSERT):
                chunk = rows[start : start + MAX_ROWS_PER_INSERT]
                await self._inserting.fetch(INSERT, as_columns(chunk))
        except Exception as error:
            failure = error
        for _, stored in group:
            if stored.done():  # its request was canceled
                continue
            if failure is None:
                stored.set_result(None)
            else:
                stored.set_exception(failure)


def as_columns(rows: Sequence[NewPrediction]) -> dict[str, list[Any]]:
    """The parameters of an INSERT."""
    return {
        "ids": [row.id for row in rows],
        "filenames": [row.filename for row in rows],
        "timestamps": [row.timestamp for row in rows],
        "pixels": [row.pixels for row in rows],
        "bulk": [row.bulk for row in rows],
    }


def to_prediction(row: Row[Any]) -> Prediction:
    """A row as the API shows it. Malformed details, as after a change by hand, are left out: one such row
    must stop neither a page of the history nor the streams."""
    try:
        return Prediction.model_validate(_required(row) | _details(row))
    except Exception as error:
        _note_unreadable(row.id, f"{type(error).__name__}: {error}")
        return Prediction.model_validate(_required(row) | UNREADABLE)


def _required(row: Row[Any]) -> dict[str, Any]:
    """The members whose columns can hold no malformed value."""
    place = f"/api/predictions/{row.id}"
    return {
        "id": row.id,
        "filename": row.filename,
        "status": row.status,
        "prediction": row.prediction,
        "confidence": row.confidence,
        "model": row.model,
        "timestamp": row.timestamp,
        "completed_at": row.completed_at,
        "feedback": row.feedback,
        "urls": {"self": place, "events": f"{place}/events", "image": f"{place}/image"},
    }


def _details(row: Row[Any]) -> dict[str, Any]:
    waited = row.started_at - row.timestamp if row.started_at else None
    return {
        "probabilities": json.loads(row.probabilities) if row.probabilities else [],
        "energy": row.energy,
        "unfamiliar": row.unfamiliar,
        "error": {"title": row.error_title, "detail": row.error_detail} if row.error_title else None,
        "started_at": row.started_at,
        "metrics": {
            "queue_ms": None if waited is None else max(0.0, round(waited.total_seconds() * 1000, 3)),
            "batch_size": row.batch_size,
            "predict_ms": row.predict_ms,
        },
    }


@lru_cache(maxsize=1000)
def _note_unreadable(id: UUID, reason: str) -> None:
    """Log a row once, not each time that the history shows it."""
    logger.error("a stored prediction is malformed", extra={"prediction_id": str(id), "reason": reason})


def _unknown(id: UUID) -> UnknownPrediction:
    return UnknownPrediction(f"No prediction has the id {id}; GET /api/predictions lists those there are.")
