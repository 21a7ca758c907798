"""The history as CSV: its lines equal those of Python's csv module, and no file name can be a formula."""

import csv
import re
from io import StringIO
from random import Random

import asyncpg
import httpx
import pytest

from backend import history
from backend.csv_export import HEAD, SIGNS
from tests.backend.conftest import Api, insert

FORMULA = re.compile(rf"(^|;)(?=\s*[{SIGNS}])|^(?=\s)")
TEXTS = ("filename", "status", "prediction", "feedback", "model", "error_title")
COLUMNS = (
    "id", "filename", "status", "prediction", "confidence", "unfamiliar", "feedback", "model", "error_title",
    "timestamp", "started_at", "completed_at",
)  # fmt: skip
PIECES = [*"=-;\",\n\r\t '\\a猫", "\u3000", "\xa0", "\x1c", "\x85", "\u200b", "\uff1d"]  # joined at random


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
    """Unusual texts; confidences of 0 and from 1e-19 to 1; times with and without a fraction of a second."""
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


async def test_the_history_is_csv_if_accept_prefers_csv(api: Api) -> None:
    lines = [("Accept", "application/json;q=0.5"), ("accept", "Text/CSV")]
    answer = await api.client.get("/api/predictions", headers=lines)
    assert answer.headers["content-type"].startswith("text/csv")
    answer = await api.client.get("/api/predictions", headers={"Accept": "text/csv;q=0"})
    assert answer.headers["content-type"] == "application/json"


async def read_csv(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert "predictions.csv" in answer.headers["content-disposition"]
    assert answer.content.startswith(b"\xef\xbb\xbf") and answer.text.count("\ufeff") == 1
    return list(csv.DictReader(StringIO(answer.content.decode("utf-8-sig"))))


async def test_the_history_is_exported_as_csv_filtered_or_whole(
    api: Api, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parameter `format` takes precedence over `Accept`. `limit` has no effect on CSV."""
    monkeypatch.setattr(history, "PAGE", 2)
    for minute in range(5):
        await insert(database, minute, "cat" if minute else "dog", 0.5)
    rows = await read_csv(await api.client.get("/api/predictions", params={"format": "csv", "limit": 1}))
    assert [row["filename"] for row in rows] == [f"image_{minute}%.png" for minute in (4, 3, 2, 1, 0)]
    assert (rows[4]["prediction"], rows[4]["confidence"], rows[4]["status"]) == ("dog", "0.5", "succeeded")
    assert (rows[4]["timestamp"], rows[4]["error"]) == ("2026-01-01T00:00:00Z", "")
    accept = {"Accept": "text/csv"}
    rows = await read_csv(await api.client.get("/api/predictions", params={"label": "dog"}, headers=accept))
    assert [row["filename"] for row in rows] == ["image_0%.png"]
    answer = await api.client.get("/api/predictions", params={"format": "json"}, headers=accept)
    assert len(answer.json()["results"]) == 5
    nothing = await api.client.get("/api/predictions", params={"format": "csv", "label": "house"})
    assert await read_csv(nothing) == [] and nothing.text.startswith("\ufeffid,filename,")


async def test_a_file_name_cannot_be_a_formula(api: Api, cat: bytes) -> None:
    for name in ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "with a comma, and 'quotes'.png"):
        await api.client.post("/api/predict", files={"file": (name, cat)})
    rows = await read_csv(await api.client.get("/api/predictions?format=csv"))
    names = [row["filename"] for row in rows]
    assert names[0] == "with a comma, and 'quotes'.png"
    assert all(name.startswith("'") for name in names[1:])


@pytest.mark.parametrize(
    ("name", "written"),
    [
        *((f"{sign}1+1", f"'{sign}1+1") for sign in "=+-@\uff1d\uff0b\uff0d\uff20\ufe66\u2212\u207c"),
        *((f"{space}=1", f"'{space}=1") for space in (" ", "\t", "\n", "\r", "\u00a0", "\u3000")),
        ("a;=1+1.png", "a;'=1+1.png"),
        ("a; \uff1d1.png", "a;' \uff1d1.png"),
        ("a=1;b-2.png", "a=1;b-2.png"),
        ("IMG-1.png", "IMG-1.png"),
        ("\u732b.png", "\u732b.png"),
    ],
)
async def test_a_file_name_gets_an_apostrophe_where_a_formula_may_begin(
    name: str, written: str, api: Api, database: asyncpg.Connection
) -> None:
    id = await insert(database, 0, "cat", 0.0000125)
    await database.execute("UPDATE predictions SET filename = $1", name)
    (row,) = await read_csv(await api.client.get("/api/predictions?format=csv"))
    assert row["filename"] == written
    assert row["id"].replace("-", "") == id
    assert float(row["confidence"]) == pytest.approx(0.0000125)
