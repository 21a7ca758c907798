"""The lines that PostgreSQL writes, compared with the same rules in Python."""

import csv
import re
from io import StringIO
from random import Random

import asyncpg
import pytest

from backend import history
from backend.csv_export import HEAD, SIGNS
from tests.backend.conftest import Api
from tests.backend.test_history import insert

FORMULA = re.compile(rf"(^|;)(?=\s*[{SIGNS}])|^(?=\s)")
TEXTS = ("filename", "status", "prediction", "feedback", "model", "error_title")
COLUMNS = (
    "id", "filename", "status", "prediction", "confidence", "unfamiliar", "feedback", "model", "error_title",
    "timestamp", "started_at", "completed_at",
)  # fmt: skip
PIECES = [*"=-;\",\n\r\t '\\a猫", "\u3000", "\xa0", "\x1c", "\x85", "\u200b", "\uff1d"]


def write_cell(column: str, value: object) -> str:
    if value is None:
        return ""
    if column in TEXTS:
        return FORMULA.sub(r"\1'", str(value))
    if column.endswith(("_at", "timestamp")):
        return value.isoformat().replace("+00:00", "Z")  # pyright: ignore
    return str(value)


def write_lines(rows: list[asyncpg.Record]) -> str:
    text = StringIO()
    csv.writer(text).writerows([[write_cell(name, row[name]) for name in COLUMNS] for row in rows])
    return text.getvalue()


async def test_every_line_equals_the_line_that_python_writes(
    api: Api, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unusual texts in every column, all sizes of confidence, times with and without microseconds."""
    monkeypatch.setattr(history, "PAGE", 7)
    random = Random(7)

    def draw() -> str:
        return "".join(random.choices(PIECES, k=random.randint(1, 5)))

    for minute in range(60):
        confidence = [0.0, 1.0, 0.1 + 0.2, 10.0 ** -(minute % 20)][minute % 4]
        id = await insert(database, minute, "cat", confidence)
        await database.execute(
            """UPDATE predictions SET filename = $2, prediction = $3, feedback = $4, model = $5,
               unfamiliar = $6, started_at = "timestamp" + interval '1 microsecond' * $7 WHERE id = $1""",
            *(id, draw(), draw(), draw(), draw(), [True, False, None][minute % 3], 400_000 * (minute % 5)),
        )
    id = await insert(database, 60, None)
    await database.execute(
        "UPDATE predictions SET status = 'failed', error_title = $2, completed_at = now() WHERE id = $1",
        *(id, '=1, "2"'),
    )
    query = "SELECT *, status::text AS status FROM predictions ORDER BY id DESC"
    answer = await api.client.get("/api/predictions?format=csv")
    assert answer.content == HEAD + write_lines(await database.fetch(query)).encode()
    assert answer.content.startswith(b"\xef\xbb\xbfid,filename,status,prediction,confidence,unfamiliar,")
