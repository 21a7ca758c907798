"""SQL for predictions: insert, read, change, delete, count, and find those whose message is lost.

`idempotency.py` inserts with a key, `history.py` searches, `retention.py` removes old ones.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from backend.database import DirectConnection, Pool
from backend.errors import Refusal, ServiceError
from backend.prediction_rows import COLUMNS, NewPrediction, as_columns, to_prediction
from backend.schemas.predictions import Prediction

logger = logging.getLogger(__name__)

# Store accepted images.
INSERT = """
INSERT INTO predictions (id, filename, "timestamp", pixels, bulk)
SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:filenames AS text[]), CAST(:timestamps AS timestamptz[]),
                     CAST(:pixels AS bytea[]), CAST(:bulk AS boolean[]))
"""

# Cancel an unfinished prediction. A later outcome of a worker then changes nothing.
CANCEL = f"""
UPDATE predictions SET status = 'canceled', completed_at = clock_timestamp()
WHERE id = :id AND status IN ('queued', 'running')
RETURNING {COLUMNS}
"""

# Remove a prediction.
DELETE = "DELETE FROM predictions WHERE id = :id RETURNING id"

# Store or remove the correct label, which a person gives.
SET_FEEDBACK = f"UPDATE predictions SET feedback = :label WHERE id = :id RETURNING {COLUMNS}"

# One prediction, and the highest number in `events`.
READ = f"SELECT {COLUMNS}, (SELECT max(number) FROM events) AS latest FROM predictions WHERE id = :id"

# The image of one prediction as the model sees it.
READ_PIXELS = "SELECT pixels FROM predictions WHERE id = :id"

# The number of unfinished predictions. From 5,000 on it is an estimate: 8 times the number in an eighth of
# the rows. Counting 50,000 rows would take 8 ms.
COUNT_UNFINISHED = """
SELECT CASE WHEN counted < 5000 THEN counted ELSE (
    SELECT 8 * count(*) FROM predictions
    WHERE status IN ('queued', 'running') AND get_byte(uuid_send(id), 15) < 32) END AS unfinished
FROM (SELECT count(*) AS counted FROM (
    SELECT FROM predictions WHERE status IN ('queued', 'running') LIMIT 5000) AS first) AS count
"""

# Unfinished rows of one queue whose message appears to be lost. One of three conditions holds:
# - queued for 5 s, the queue is empty, and no row of the queue was started in the last 5 s;
# - queued for 5 s, and a row of the queue that is 5 s younger was started;
# - running for 60 s. A batch usually takes less, and a repeated message does no harm.
# Only the oldest rows are examined: workers take the rows of a queue in order, so a row whose message is lost
# is soon among the oldest. An empty queue alone proves nothing, because workers hold messages that they have
# not started. Recently started rows are found through the latest 1,000 events, because a scan by id
# may have to read 50,000 queued rows.
LOST = """
WITH started AS MATERIALIZED (
    SELECT max("timestamp") AS youngest,
           coalesce(max(started_at) > now() - interval '5 seconds', false) AS started_lately
    FROM (SELECT prediction_id FROM events ORDER BY number DESC LIMIT 1000) AS event
    JOIN predictions ON id = prediction_id
    WHERE bulk = :bulk AND started_at IS NOT NULL)
SELECT id FROM started, (
    SELECT id, status, "timestamp", started_at FROM predictions
    WHERE status IN ('queued', 'running') AND bulk = :bulk AND id > :after ORDER BY id LIMIT :most) AS oldest
WHERE status = 'queued' AND "timestamp" < now() - interval '5 seconds'
        AND (CAST(:queue_is_empty AS boolean) AND NOT started_lately
             OR "timestamp" < youngest - interval '5 seconds')
    OR status = 'running' AND started_at < now() - interval '60 seconds'
ORDER BY id
"""


MAX_ROWS_PER_INSERT = 512
GATHER_SECONDS = 0.01
LOST_PAGE = 2000  # rows that one statement examines


class Predictions:
    """Reads and writes predictions. Methods raise what Pool.fetch raises.

    `insert_connection` runs the INSERTs. `none_decoding` is set while no file is being decoded.
    """

    def __init__(self, pool: Pool, insert_connection: DirectConnection, none_decoding: asyncio.Event) -> None:
        self._pool = pool
        self._insert_connection = insert_connection
        self._none_decoding = none_decoding
        self._inserting = asyncio.Lock()
        self._waiting: list[NewPrediction] = []
        self._next_insert: asyncio.Task[None] | None = None

    async def insert(self, rows: Sequence[NewPrediction]) -> None:
        """Store rows. They are committed when this returns.

        Concurrent requests share an INSERT: rows that arrive while one INSERT runs are in the next one. An
        INSERT waits for files that are being decoded, at most 10 ms. Without this wait, each photo would have
        an INSERT of its own. A lone request does not wait.
        """
        self._waiting += rows
        if self._next_insert is None:
            self._next_insert = asyncio.create_task(self._insert_waiting())
        await asyncio.shield(self._next_insert)  # a request that is canceled does not cancel the others

    async def cancel(self, id: UUID) -> Prediction:
        """Cancel a prediction, or do nothing if it is already canceled.

        Raises UNKNOWN_PREDICTION, PREDICTION_ENDED.
        """
        if rows := await self._pool.fetch(CANCEL, {"id": id}):
            return to_prediction(rows[0])
        prediction, _ = await self.read(id)
        if prediction.status != "canceled":
            detail = (
                f"The prediction has already {prediction.status}. Use DELETE to remove it from the history."
            )
            raise ServiceError(Refusal.PREDICTION_ENDED, detail)
        return prediction

    async def delete(self, id: UUID) -> None:
        """Remove a prediction in any status. Raises UNKNOWN_PREDICTION."""
        await self._fetch_one(DELETE, id)

    async def set_feedback(self, id: UUID, label: str | None) -> Prediction:
        """Store the correct label, or remove it with None. Raises UNKNOWN_PREDICTION."""
        return to_prediction(await self._fetch_one(SET_FEEDBACK, id, label=label))

    async def read(self, id: UUID) -> tuple[Prediction, int]:
        """A prediction, and the highest number in `events`. Raises UNKNOWN_PREDICTION."""
        row = await self._fetch_one(READ, id)
        return to_prediction(row), row.latest or 0

    async def read_pixels(self, id: UUID) -> bytes:
        """The stored 32 x 32 x 3 bytes. Raises UNKNOWN_PREDICTION."""
        return (await self._fetch_one(READ_PIXELS, id)).pixels

    async def count_unfinished(self) -> int:
        (row,) = await self._pool.fetch(COUNT_UNFINISHED)
        return row.unfinished

    async def find_lost(self, *, bulk: bool, queue_is_empty: bool) -> list[UUID]:
        """The unfinished rows of one queue whose message appears to be lost, oldest first."""
        lost: list[UUID] = []
        while True:
            after = lost[-1] if lost else UUID(int=0)
            parameters = {"bulk": bulk, "queue_is_empty": queue_is_empty, "after": after, "most": LOST_PAGE}
            found = await self._pool.fetch(LOST, parameters)
            lost += [row.id for row in found]
            if len(found) < LOST_PAGE:
                return lost

    async def _fetch_one(self, statement: str, id: UUID, **parameters: Any) -> Row[Any]:
        rows = await self._pool.fetch(statement, {"id": id, **parameters})
        if not rows:
            detail = f"No prediction has the id {id}. GET /api/predictions lists all predictions."
            raise ServiceError(Refusal.UNKNOWN_PREDICTION, detail)
        return rows[0]

    async def _insert_waiting(self) -> None:
        async with self._inserting:
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._none_decoding.wait()
            rows, self._waiting, self._next_insert = self._waiting, [], None
            for start in range(0, len(rows), MAX_ROWS_PER_INSERT):
                chunk = rows[start : start + MAX_ROWS_PER_INSERT]
                await self._insert_connection.fetch(INSERT, as_columns(chunk))
