"""Pages of the history: filters, order and cursors."""

import base64
import binascii
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from backend.database import Database
from backend.errors import BadParameter
from backend.predictions import COLUMNS, to_prediction
from backend.schemas.predictions import Prediction

# A page of the history: conditions, order and limit are put in by `history_statement`.
HISTORY = f"SELECT {COLUMNS} FROM predictions WHERE {{conditions}} ORDER BY id {{order}} LIMIT :limit"
PAGE = 1000  # rows that are read together when all are
CONDITIONS = {
    "status": "status = CAST(:status AS prediction_status)",
    "label": "prediction = :label",
    "min_confidence": "confidence >= :min_confidence",
    "from": "id >= :from",
    "to": "id < :to",
    "q": "filename ILIKE :q",
    "older": "id < :older",
    "newer": "id > :newer",
}


@dataclass(frozen=True)
class Page:
    rows: list[Prediction]
    next: str | None
    previous: str | None


async def read_page(database: Database, limit: int, cursor: str | None, filters: Mapping[str, Any]) -> Page:
    """A page of the history, newest first. Raises BadParameter for a bad cursor."""
    direction, edge = decode_cursor(cursor) if cursor else ("older", None)
    parameters = dict(filters) | ({direction: edge} if edge else {})
    statement = history_statement(list(parameters), direction)
    rows = list(await database.fetch(statement, {**parameters, "limit": limit + 1}))
    more, rows = len(rows) > limit, rows[:limit]
    if direction == "newer":
        rows.reverse()
    if not rows:
        return Page([], None, None)
    has_older, has_newer = (more, cursor is not None) if direction == "older" else (True, more)
    return Page(
        [to_prediction(row) for row in rows],
        next=encode_cursor("older", rows[-1].id) if has_older else None,
        previous=encode_cursor("newer", rows[0].id) if has_newer else None,
    )


async def read_all(database: Database, filters: Mapping[str, Any]) -> AsyncIterator[Sequence[Prediction]]:
    """All that the filters let through, newest first, a page at a time. The first is read when this returns,
    so that an error can still be answered."""
    first = await read_page(database, PAGE, None, filters)

    async def pages() -> AsyncIterator[Sequence[Prediction]]:
        page = first
        yield page.rows
        while page.next:
            page = await read_page(database, PAGE, page.next, filters)
            yield page.rows

    return pages()


def history_statement(filters: Sequence[str], direction: str) -> str:
    """The history's SQL for these filters; their values stay parameters."""
    conditions = " AND ".join(CONDITIONS[name] for name in filters) or "true"
    return HISTORY.format(conditions=conditions, order="DESC" if direction == "older" else "ASC")


def encode_cursor(direction: str, id: UUID) -> str:
    """An opaque place in the history: the rows older, or newer, than one row."""
    return base64.urlsafe_b64encode(direction[0].encode() + id.bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str, UUID]:
    """The inverse of `encode_cursor`. Raises BadParameter."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        return {b"o": "older", b"n": "newer"}[data[:1]], UUID(bytes=data[1:])
    except (binascii.Error, KeyError, ValueError) as error:
        detail = "The cursor is not one that this service gave; start again without `cursor`."
        raise BadParameter(detail) from error


def time_bound(moment: datetime) -> UUID:
    """The smallest id that a row of this moment, to the millisecond, can have."""
    return UUID(int=max(0, round(moment.timestamp() * 1000)) << 80)
