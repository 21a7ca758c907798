"""The backend's SQL for the table `events`: changes of predictions in commit order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend.database import DirectConnection, Pool
from backend.prediction_rows import COLUMNS

MAX_MISSED = 1000  # a stream starts with at most this many missed or unfinished predictions

# At most `most` predictions with events later than `after`, ordered by the latest event of each. `kept` is
# true if the event `after`, or an event up to five seconds older, is still stored: then no later event is
# missing. (Numbers are times in microseconds. An older event is enough: a crash of PostgreSQL can undo the
# event `after`, because commits of claims do not wait for the disk.) If `kept` is false, no prediction is
# returned. There is always a row; its `number` is null if no prediction is returned. `id` is null for a
# removed prediction. A row with a number but without `prediction_id` tells readers to reload. The upper bound
# of `number`, the largest bigint, excludes nothing. With it PostgreSQL expects few events and uses the index.
READ_AFTER = f"""
SELECT state.latest, state.kept, event.number, event.prediction_id, {COLUMNS}
FROM (SELECT (SELECT max(number) FROM events) AS latest,
             EXISTS (SELECT FROM events
                     WHERE number BETWEEN CAST(:after AS bigint) - 5000000 AND :after) AS kept) AS state
LEFT JOIN LATERAL (
    SELECT prediction_id, max(number) AS number FROM events
    WHERE state.kept AND number > :after AND number < 9223372036854775807
    GROUP BY prediction_id ORDER BY max(number) LIMIT :most) AS event ON true
LEFT JOIN predictions ON id = event.prediction_id
ORDER BY event.number
"""

# The newest unfinished predictions, for a stream that starts, ordered by the latest event of each. `number`
# is null if the event is not stored any more. There is always at least one row.
READ_UNFINISHED = f"""
WITH unfinished AS MATERIALIZED (
    SELECT {COLUMNS} FROM predictions
    WHERE status IN ('queued', 'running') ORDER BY id DESC LIMIT {MAX_MISSED})
SELECT state.latest, event.number, unfinished.*
FROM (SELECT max(number) AS latest FROM events) AS state
LEFT JOIN unfinished ON true
LEFT JOIN (
    SELECT prediction_id, max(number) AS number FROM events
    WHERE prediction_id IN (SELECT id FROM unfinished) GROUP BY prediction_id) AS event
    ON event.prediction_id = unfinished.id
ORDER BY event.number NULLS FIRST, unfinished.id
"""

# Keep the newest `most` events, remove the others.
TRIM = """
DELETE FROM events WHERE number <= (SELECT number FROM events ORDER BY number DESC OFFSET :most LIMIT 1)
"""


@dataclass(frozen=True)
class Reading:
    """Predictions and the number of the latest event, from one snapshot of the database."""

    latest: int
    kept: bool
    """True if no event after the one given to `read_after` is missing."""
    rows: Sequence[Any]


class EventLog:
    """Reads and removes events. Methods raise what Pool.fetch raises."""

    def __init__(self, pool: Pool | DirectConnection) -> None:
        self._pool = pool

    async def read_after(self, number: int, most: int) -> Reading:
        """At most `most` predictions with events after this number, ordered by the latest event of each."""
        rows = await self._pool.fetch(READ_AFTER, {"after": number, "most": most})
        found = [row for row in rows if row.number is not None]
        return Reading(rows[0].latest or 0, rows[0].kept, found)

    async def read_unfinished(self) -> Reading:
        """The unfinished predictions, at most the newest 1,000, ordered by the latest event of each."""
        rows = await self._pool.fetch(READ_UNFINISHED)
        return Reading(rows[0].latest or 0, kept=True, rows=[row for row in rows if row.id is not None])

    async def trim(self, most: int) -> None:
        """Keep the newest `most` events, remove the others."""
        await self._pool.fetch(TRIM, {"most": most})
