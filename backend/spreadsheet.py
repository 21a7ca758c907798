"""The history as CSV (RFC 4180), for spreadsheets."""

import csv
from collections.abc import AsyncIterator, Sequence
from io import StringIO

from backend.schemas.predictions import Prediction

MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
COLUMNS = (
    "id", "filename", "status", "prediction", "confidence", "unfamiliar", "feedback", "model", "error",
    "timestamp", "started_at", "completed_at",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet may take for one to work out


async def as_csv(pages: AsyncIterator[Sequence[Prediction]]) -> AsyncIterator[str]:
    """A line of names, then a line for each prediction; a piece of the text for each page."""
    yield _write([COLUMNS])
    async for page in pages:
        yield _write([_cells(prediction) for prediction in page])


def _cells(prediction: Prediction) -> list[str]:
    members = prediction.model_dump(mode="json")
    members["error"] = prediction.error and prediction.error.title
    return [_neutralise("" if members[name] is None else str(members[name])) for name in COLUMNS]


def _neutralise(text: str) -> str:
    """Keep a text that anyone may have chosen, such as a file's name, from being a formula (OWASP, "CSV
    injection")."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _write(rows: Sequence[Sequence[str]]) -> str:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
