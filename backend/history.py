"""The history: pages and CSV exports of many predictions, with filters and cursors."""

import base64
import binascii
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from backend.csv_export import HEAD, LINE
from backend.database import Pool
from backend.errors import Refusal, ServiceError
from backend.prediction_rows import COLUMNS, to_prediction
from backend.schemas.predictions import PredictionPage

# A page of the history. `complete` inserts conditions and order.
HISTORY = f"SELECT {COLUMNS} FROM predictions WHERE {{conditions}} ORDER BY id {{order}} LIMIT :limit"
# A page of an export: its lines, last id and number of lines. UUIDs have no min(), but sort like their text.
EXPORT = f"""
SELECT convert_to(string_agg(line, '' ORDER BY id DESC), 'UTF8') AS lines,
       CAST(min(CAST(id AS text) COLLATE "C") AS uuid) AS last, count(*) AS size
FROM (SELECT id, {LINE} AS line
      FROM predictions WHERE {{conditions}} ORDER BY id DESC LIMIT :limit) AS page
"""
PAGE = 5000  # rows in one page of an export: 1 MB of lines
CONDITIONS = {
    "status": "status = CAST(:status AS prediction_status)",
    "label": "prediction = :label",
    "min_confidence": "confidence >= :min_confidence",
    "from": "id >= :from",
    "to": "id < :to",
    # The condition in parentheses is true for every row. It lets PostgreSQL combine two indexes: the
    # index of names, which holds only the rows that have ended, and the index of unfinished rows.
    "q": """filename ILIKE ANY(CAST(:q AS text[]))
            AND (completed_at IS NOT NULL OR status IN ('queued', 'running'))""",
    "older": "id < :older",
    "newer": "id > :newer",
}


class History:
    """Reads many predictions. Slow reads use separate connections. Methods raise what their pools raise."""

    def __init__(self, pool: Pool, searches: Pool, exports: Pool) -> None:
        self._pool = pool
        self._searches = searches
        self._exports = exports

    async def read_page(self, limit: int, cursor: str | None, filters: Mapping[str, Any]) -> PredictionPage:
        """A page of the history, newest first. Raises BAD_PARAMETER for a bad cursor."""
        direction, edge = decode_cursor(cursor) if cursor else ("older", None)
        parameters = dict(filters) | ({direction: edge} if edge else {})
        statement = complete(HISTORY, list(parameters), direction)
        pool = self._searches if filters else self._pool
        parameters["limit"] = limit + 1
        found = [] if matches_nothing(filters) else await pool.fetch(statement, parameters)
        more, rows = len(found) > limit, list(found[:limit])
        if direction == "newer":
            rows.reverse()
        has_older, has_newer = (more, cursor is not None) if direction == "older" else (True, more)
        return PredictionPage(
            results=[to_prediction(row) for row in rows],
            next=encode_cursor("older", rows[-1].id) if rows and has_older else None,
            previous=encode_cursor("newer", rows[0].id) if rows and has_newer else None,
        )

    async def export(self, filters: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """All matching predictions as CSV, newest first: the head, then one piece for each page.

        The first page is read before this returns, so if that read fails, the client gets an error status.
        Between two pages a slow client holds neither a connection nor a snapshot.
        """
        first = await self._read_lines(filters)

        async def pieces() -> AsyncIterator[bytes]:
            yield HEAD
            page = first
            while page is not None:
                yield page.lines
                page = await self._read_lines({**filters, "older": page.last}) if page.size == PAGE else None

        return pieces()

    async def _read_lines(self, filters: Mapping[str, Any]) -> Row[Any] | None:
        """The lines of one page, its last id and its number of lines; None if there are no more lines."""
        if matches_nothing(filters):
            return None
        (page,) = await self._exports.fetch(complete(EXPORT, list(filters)), {**filters, "limit": PAGE})
        return page if page.size else None


def matches_nothing(filters: Mapping[str, Any]) -> bool:
    """Whether the filters contradict one another, so that no row can match. Then the query is skipped.

    Only a prediction that succeeded has a label and a confidence.
    """
    needs_success = "label" in filters or "min_confidence" in filters
    if needs_success and filters.get("status", "succeeded") != "succeeded":
        return True
    return "from" in filters and "to" in filters and filters["from"] >= filters["to"]


def complete(statement: str, filters: Sequence[str], direction: str = "older") -> str:
    """HISTORY or EXPORT with the conditions of these filters. The values stay parameters."""
    conditions = " AND ".join(CONDITIONS[name] for name in filters) or "true"
    return statement.format(conditions=conditions, order="DESC" if direction == "older" else "ASC")


def encode_cursor(direction: str, id: UUID) -> str:
    """An opaque position in the history: the rows that are older, or newer, than the row `id`."""
    return base64.urlsafe_b64encode(direction[0].encode() + id.bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str, UUID]:
    """The inverse of `encode_cursor`. Raises BAD_PARAMETER."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        return {b"o": "older", b"n": "newer"}[data[:1]], UUID(bytes=data[1:])
    except (binascii.Error, KeyError, ValueError) as error:
        detail = "The cursor is invalid. Start again without `cursor`."
        raise ServiceError(Refusal.BAD_PARAMETER, detail) from error


def first_id_at(moment: datetime) -> UUID:
    """An id below all ids of this millisecond, and above all ids of earlier milliseconds."""
    return UUID(int=max(0, round(moment.timestamp() * 1000)) << 80)
