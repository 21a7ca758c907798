"""The history as CSV (RFC 4180), for spreadsheets."""

import csv
import re
from collections.abc import AsyncIterator, Sequence
from io import StringIO
from typing import Any

from backend.schemas.predictions import Prediction

MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
COLUMNS = (
    "id", "filename", "status", "prediction", "confidence", "unfamiliar", "feedback", "model", "error",
    "timestamp", "started_at", "completed_at",
)  # fmt: skip
BYTE_ORDER_MARK = "\ufeff"  # without it Excel takes the text for the code page of its language
# What may begin a formula: one of = + - @, in full width, small, raised, lowered, or the minus U+2212, which
# some spreadsheets read as the same. White space may stand before it, or the ; that separates cells for some.
SIGNS = (
    r"=+\-@" + "\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212\u207c\u207a\u207b\u208c\u208a\u208b"
)
FORMULA = re.compile(rf"(^|;)(?=\s*[{SIGNS}])|^(?=\s)")


async def as_csv(pages: AsyncIterator[Sequence[Prediction]]) -> AsyncIterator[str]:
    """A line of names, then a line for each prediction; a piece of the text for each page."""
    yield BYTE_ORDER_MARK + _write([COLUMNS])
    async for page in pages:
        yield _write([_cells(prediction) for prediction in page])


def _cells(prediction: Prediction) -> list[str]:
    members = prediction.model_dump(mode="json")
    members["error"] = prediction.error and prediction.error.title
    return [_write_cell(members[name]) for name in COLUMNS]


def _write_cell(value: Any) -> str:
    """A text that anyone may have chosen, such as a file's name, becomes no formula (OWASP, "CSV injection").
    Numbers stay numbers."""
    if value is None:
        return ""
    return FORMULA.sub(r"\1'", value) if isinstance(value, str) else str(value)


def _write(rows: Sequence[Sequence[str]]) -> str:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
