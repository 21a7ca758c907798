"""The backend's SQL for the table `events`: what happened to predictions, in the order of the commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend.database import Database, DirectConnection
from backend.predictions import COLUMNS

MAX_MISSED = 1000  # predictions that a stream tells of what its reader missed, or of what is under way

# The predictions with events after the event `after`, at most `most`, ordered by the latest event of each.
# `kept` says that no event after it is missing: it is still stored, or one of the five seconds before it is.
# (A crash of PostgreSQL can forget the last claims of a worker.) Else no prediction is given. There is at
# least one line: it holds nulls when nothing happened. A prediction that was removed has no `id`.
# The upper bound, 30 years later, excludes nothing: it makes PostgreSQL expect few events and use the index.
READ_AFTER = f"""
SELECT state.latest, state.kept, event.number, event.prediction_id, {COLUMNS}
FROM (SELECT (SELECT max(number) FROM events) AS latest,
             EXISTS (SELECT FROM events
                     WHERE number BETWEEN CAST(:after AS bigint) - 5000000 AND :after) AS kept) AS state
LEFT JOIN LATERAL (
    SELECT prediction_id, max(number) AS number FROM events
    WHERE state.kept AND number > :after AND number < CAST(:after AS bigint) + 1000000000000000
    GROUP BY prediction_id ORDER BY max(number) LIMIT :most) AS event ON true
LEFT JOIN predictions ON id = event.prediction_id
ORDER BY event.number
"""

# What is under way, for a stream that starts: the newest predictions, ordered by the latest event of each.
# The number of an event that is not stored any more is null. There is at least one line.
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

# Remove all events but the newest.
TRIM = """
DELETE FROM events WHERE number <= (SELECT number FROM events ORDER BY number DESC OFFSET :kept LIMIT 1)
"""

STATEMENTS = {"READ_AFTER": READ_AFTER, "READ_UNFINISHED": READ_UNFINISHED, "TRIM": TRIM}


@dataclass(frozen=True)
class Reading:
    """Predictions as one snapshot of the database shows them, and the latest event that it shows.

    The rows show what the events up to that one tell, and nothing later.
    """

    latest: int
    kept: bool
    """No event after the one that was asked about is missing."""
    rows: Sequence[Any]


class EventLog:
    """Reads and removes events. Everything raises what Database.fetch does."""

    def __init__(self, database: Database | DirectConnection) -> None:
        self._database = database

    async def read_after(self, number: int, most: int) -> Reading:
        """At most `most` predictions that have events after one, ordered by the latest event of each."""
        rows = await self._database.fetch(READ_AFTER, {"after": number, "most": most})
        found = [row for row in rows if row.number is not None]
        return Reading(rows[0].latest or 0, rows[0].kept, found)

    async def read_unfinished(self) -> Reading:
        """What is under way, ordered by the latest event of each; the newest, should there be very many."""
        rows = await self._database.fetch(READ_UNFINISHED)
        return Reading(rows[0].latest or 0, kept=True, rows=[row for row in rows if row.id is not None])

    async def trim(self, kept: int) -> None:
        """Remove all events but the newest `kept`."""
        await self._database.fetch(TRIM, {"kept": kept})
