"""The history: pages, filters, single predictions and their images."""

import asyncio
import csv
import json
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from httpx_sse import aconnect_sse
from PIL import Image

from backend import history
from backend.errors import BadParameter
from backend.history import decode_cursor, encode_cursor
from inference.predictions import Predictions as WorkerPredictions
from scripts.local.config import Config
from tests.backend.conftest import PROBABILITIES, Api
from tests.backend.test_predict import assert_problem

Finish = Callable[[str], Awaitable[None]]
START = datetime(2026, 1, 1, tzinfo=UTC)


async def insert(
    database: asyncpg.Connection, minute: int, label: str | None, confidence: float = 0.5
) -> str:
    """A row that was accepted `minute` minutes after START, with the id of that time."""
    moment = START + timedelta(minutes=minute)
    random = uuid4().int & ((1 << 62) - 1)
    number = (int(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | random
    id = f"{number:032x}"
    await database.execute(
        """INSERT INTO predictions (id, filename, "timestamp", pixels)
           VALUES ($1::text::uuid, $2, $3, decode(repeat('7f', 3072), 'hex'))""",
        id,
        f"image_{minute}%.png",
        moment,
    )
    if label:
        await database.execute(
            """UPDATE predictions SET status = 'succeeded', prediction = $2, confidence = $3,
               probabilities = $4, model = 'm', completed_at = now() WHERE id = $1::text::uuid""",
            id,
            label,
            confidence,
            PROBABILITIES,
        )
    return id


async def minutes(api: Api, **query: object) -> list[int]:
    answer = await api.client.get("/api/predictions", params=query)  # pyright: ignore[reportArgumentType]
    assert answer.status_code == 200, answer.text
    return [int(row["filename"][6:].split("%")[0]) for row in answer.json()["results"]]


async def test_pages_lead_from_the_newest_to_the_oldest_and_back(
    api: Api, database: asyncpg.Connection
) -> None:
    for minute in range(5):
        await insert(database, minute, "cat")
    pages: list[list[str]] = []
    cursor, last = None, {}
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        last = (await api.client.get("/api/predictions", params=query)).json()
        pages.append([row["filename"][6] for row in last["results"]])
        cursor = last["next"]
        if not cursor:
            break
    assert pages == [["4", "3"], ["2", "1"], ["0"]]
    query = {"limit": 2, "cursor": last["previous"]}
    back = (await api.client.get("/api/predictions", params=query)).json()
    assert [row["filename"][6] for row in back["results"]] == ["2", "1"]
    assert back["next"] and back["previous"]


async def test_filters_narrow_the_history_together(api: Api, database: asyncpg.Connection) -> None:
    for minute, (label, confidence) in enumerate([("cat", 0.9), ("dog", 0.8), ("cat", 0.4), (None, 0)]):
        await insert(database, minute, label, confidence)
    assert await minutes(api) == [3, 2, 1, 0]
    assert await minutes(api, label="cat") == [2, 0]
    assert await minutes(api, label="cat", min_confidence=0.5) == [0]
    assert await minutes(api, status="queued") == [3]
    assert await minutes(api, q="_1%") == [1]
    assert await minutes(api, q="%3") == []
    at = {minute: (START + timedelta(minutes=minute)).isoformat() for minute in range(4)}
    assert await minutes(api, **{"from": at[1], "to": at[3]}) == [2, 1]


async def test_the_history_is_csv_if_accept_prefers_csv(api: Api) -> None:
    lines = [("Accept", "application/json;q=0.5"), ("accept", "Text/CSV")]
    answer = await api.client.get("/api/predictions", headers=lines)
    assert answer.headers["content-type"].startswith("text/csv")
    refused = await api.client.get("/api/predictions", headers={"Accept": "text/csv;q=0"})
    assert refused.headers["content-type"] == "application/json"


async def test_an_empty_parameter_is_ignored(api: Api, cat: bytes) -> None:
    await api.upload(cat)
    empty = "status=&label=&min_confidence=&from=&to=&q=&cursor=&limit=&format="
    answer = await api.client.get(f"/api/predictions?{empty}")
    assert answer.status_code == 200, answer.text
    assert answer.json() == (await api.client.get("/api/predictions")).json()
    assert len(answer.json()["results"]) == 1
    assert (await api.client.get("/api/trainings?cursor=&limit=")).status_code == 200


@pytest.mark.parametrize(
    ("moment", "found"),
    [
        ("2026-01-01T02:00:00+02:00", 0),
        ("2026-01-01T02:00:00%2B02:00", 0),
        ("2026-01-01T02:00:00.000+0200", 0),
        ("2026-01-01+02:00:00+02:00", 0),
        ("2026-01-01T02:00+0200", 0),
        ("2026-01-01T01:59:59+02:00", 1),
        ("2026-01-01T02:00:00-02:00", 0),
        ("2026-01-01+00:00:00", 0),
    ],
)
async def test_the_plus_of_an_offset_may_be_unencoded(
    api: Api, database: asyncpg.Connection, moment: str, found: int
) -> None:
    """The row is of 23:59:59.999 UTC, the last millisecond of 2025."""
    await database.execute(
        """INSERT INTO predictions (id, filename, "timestamp", pixels)
           VALUES ('019b76da-a7ff-7000-8000-000000000000', 'a', '2025-12-31 23:59:59.999Z',
               decode(repeat('7f', 3072), 'hex'))"""
    )
    answer = await api.client.get(f"/api/predictions?from={moment}")
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"]) == found


async def test_a_name_is_found_in_any_unicode_form(api: Api, cat: bytes) -> None:
    names = [
        "Ka\u0308tzchen\u202f1.png",
        "STRA\u1e9eE.png",
        "\u041a\u041e\u0428\u041a\u0410.png",
        "İstanbul.png",
    ]
    for name in names:
        await api.client.post("/api/predict", files={"file": (name, cat)})

    async def find(q: str) -> list[str]:
        found = (await api.client.get("/api/predictions", params={"q": q})).json()["results"]
        return [row["filename"] for row in found]

    for q in ("kätzchen 1", "KA\u0308TZ", "Kätzchen\u00a01", "ÄTZCHEN\u202f1.PNG"):
        assert await find(q) == ["Kätzchen 1.png"], q
    assert await find("straße") == ["STRAẞE.png"]
    assert await find("\u043a\u043e\u0448\u043a\u0430") == ["\u041a\u041e\u0428\u041a\u0410.png"]
    assert await find("istanbul") == ["İstanbul.png"]


async def test_one_prediction_and_its_image_are_read(api: Api, database: asyncpg.Connection) -> None:
    id = await insert(database, 0, "cat")
    prediction = (await api.client.get(f"/api/predictions/{id}")).json()
    assert prediction["prediction"] == "cat"
    assert prediction["timestamp"] == "2026-01-01T00:00:00Z"
    answer = await api.client.get(prediction["urls"]["image"])
    assert answer.headers["content-type"] == "image/png"
    image = Image.open(BytesIO(answer.content))
    assert (image.size, image.mode, image.getpixel((5, 5))) == ((32, 32), "RGB", (127, 127, 127))


async def test_a_prediction_shows_whether_the_image_is_unfamiliar(
    api: Api, database: asyncpg.Connection
) -> None:
    place = f"/api/predictions/{await insert(database, 0, 'cat')}"
    prediction = (await api.client.get(place)).json()
    assert (prediction["energy"], prediction["unfamiliar"]) == (None, None)
    await database.execute("UPDATE predictions SET energy = -1.25, unfamiliar = true")
    prediction = (await api.client.get(place)).json()
    assert (prediction["energy"], prediction["unfamiliar"]) == (-1.25, True)


@pytest.mark.parametrize("part", ["", "/image", "/events"])
async def test_an_unknown_id_is_a_problem(part: str, api: Api) -> None:
    assert_problem(await api.client.get(f"/api/predictions/{uuid4()}{part}"), 404, "GET /api/predictions")
    assert_problem(await api.client.get(f"/api/predictions/no-id{part}"), 422, "id")


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "abc"},
        {"cursor": "bm90IGEgY3Vyc29yIQ"},
        {"limit": 0},
        {"limit": 201},
        {"status": "done"},
        {"min_confidence": 2},
        {"from": "yesterday"},
        {"q": "\x00"},
        {"label": "\x00"},
    ],
    ids=str,
)
async def test_a_bad_parameter_is_a_problem(query: dict[str, object], api: Api) -> None:
    answer = await api.client.get("/api/predictions", params=query)  # pyright: ignore[reportArgumentType]
    assert_problem(answer, 422, "Bad parameter")


async def test_a_prediction_can_be_removed_once(api: Api, cat: bytes) -> None:
    url = (await api.upload(cat)).json()["urls"]["self"]
    answer = await api.client.delete(url)
    assert (answer.status_code, answer.content) == (204, b"")
    for method in ("GET", "DELETE"):
        assert_problem(await api.client.request(method, url), 404, "Unknown prediction")


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_an_unfinished_prediction_can_be_canceled_and_stays_canceled(
    status: str, api: Api, cat: bytes, finish: Finish, servers: Config, database: asyncpg.Connection
) -> None:
    waiting, done = (await api.upload(cat, cat)).json()["predictions"]
    if status == "running":
        await database.execute("UPDATE predictions SET status = 'running', started_at = now(), attempt = 1")
    answer = await api.client.post(f"{waiting['urls']['self']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert answer.json()["completed_at"]
    again = await api.client.post(f"{waiting['urls']['self']}/cancel")
    assert (again.status_code, again.json()) == (200, answer.json())
    await finish(done["id"])
    assert_problem(await api.client.post(f"{done['urls']['self']}/cancel"), 409, "already succeeded")
    worker = WorkerPredictions(servers.database_url("worker"), threading.Event())
    assert worker.take([UUID(waiting["id"])]) == []
    worker.close()


async def test_feedback_is_stored_and_can_be_removed(api: Api, database: asyncpg.Connection) -> None:
    url = f"/api/predictions/{await insert(database, 0, 'cat')}"
    for label in ("dog", "a house", None):
        answer = await api.client.put(f"{url}/feedback", json={"label": label})
        assert (answer.status_code, answer.json()["feedback"]) == (200, label)
        assert (await api.client.get(url)).json() == answer.json()
    typed = await api.client.put(f"{url}/feedback", content='{"label": "dog"}')  # like curl -d
    assert typed.json()["feedback"] == "dog"


@pytest.mark.parametrize(
    "body",
    ["", "{}", "[]", '{"label": 3}', '{"label": ""}', '{"label": "a\\u0000"}', '{"lable": "cat"}', "no"],
)
async def test_invalid_feedback_changes_nothing(body: str, api: Api, database: asyncpg.Connection) -> None:
    url = f"/api/predictions/{await insert(database, 0, 'cat')}"
    assert_problem(await api.client.put(f"{url}/feedback", content=body), 422, "/docs")
    assert_problem(await api.client.put(f"{url}/feedback", content=b" " * 5000), 413, "4,096")
    assert (await api.client.get(url)).json()["feedback"] is None


@pytest.mark.parametrize(("method", "part"), [("DELETE", ""), ("POST", "/cancel"), ("PUT", "/feedback")])
async def test_an_unknown_prediction_cannot_be_changed(method: str, part: str, api: Api) -> None:
    url, body = f"/api/predictions/{uuid4()}{part}", '{"label": "cat"}'
    answer = await api.client.request(method, url, content=body)
    assert_problem(answer, 404, "GET /api/predictions")


async def read_csv(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert "predictions.csv" in answer.headers["content-disposition"]
    assert answer.content.startswith(b"\xef\xbb\xbf") and answer.text.count("\ufeff") == 1
    return list(csv.DictReader(StringIO(answer.content.decode("utf-8-sig"))))


async def test_the_history_is_exported_as_csv_filtered_or_whole(
    api: Api, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
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
async def test_no_cell_begins_with_a_character_that_may_begin_a_formula(
    name: str, written: str, api: Api, database: asyncpg.Connection
) -> None:
    id = await insert(database, 0, "cat", 0.0000125)
    await database.execute("UPDATE predictions SET filename = $1", name)
    (row,) = await read_csv(await api.client.get("/api/predictions?format=csv"))
    assert row["filename"] == written
    assert row["id"].replace("-", "") == id
    assert float(row["confidence"]) == pytest.approx(0.0000125)


def test_a_cursor_is_decoded_and_a_damaged_one_is_refused() -> None:
    id = uuid4()
    cursor = encode_cursor("newer", id)
    assert decode_cursor(cursor) == ("newer", id)
    with pytest.raises(BadParameter):
        decode_cursor(cursor[:-2])


# Details that the table accepts and no worker writes: SQL for `probabilities` and `started_at`.
MALFORMED = {
    "an object": ("""'{"cat": 0.9}'::jsonb""", "now()"),
    "pairs": ("""'[["cat", 0.9]]'::jsonb""", "now()"),
    "a text": ("""'"cat"'::jsonb""", "now()"),
    "null": ("'null'::jsonb", "now()"),
    "no probability": ("""'[{"label": "cat", "probability": 1e400}]'::jsonb""", "now()"),
    "deep": ("(repeat('[', 3000) || repeat(']', 3000))::jsonb", "now()"),
    "no time": ("'[]'::jsonb", "'infinity'"),
}


async def malform(database: asyncpg.Connection, id: str, kind: str) -> None:
    probabilities, started_at = MALFORMED[kind]
    await database.execute(
        f"UPDATE predictions SET probabilities = {probabilities}, started_at = {started_at} WHERE id = $1", id
    )


@pytest.mark.parametrize("kind", MALFORMED)
async def test_a_malformed_row_is_shown_without_details_and_breaks_nothing(
    kind: str,
    api: Api,
    cat: bytes,
    finish: Finish,
    database: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    malformed, neighbour = [(await api.upload(cat)).json()["id"] for _ in range(2)]
    await finish(malformed)
    async with asyncio.timeout(10), aconnect_sse(api.client, "GET", "/api/events") as stream:
        events = stream.aiter_sse()
        assert json.loads((await anext(events)).data)["id"] == neighbour
        await malform(database, malformed, kind)
        shown = json.loads((await anext(events)).data)
        assert (shown["id"], shown["prediction"], shown["probabilities"]) == (malformed, "cat", [])
        assert shown["error"]["title"] == "Stored details not readable"
        await finish(neighbour)
        told = await anext(events)  # "running" is missing if one read finds both changes
        if json.loads(told.data)["status"] == "running":
            told = await anext(events)
        assert (json.loads(told.data)["id"], json.loads(told.data)["status"]) == (neighbour, "succeeded")
    listed = (await api.client.get("/api/predictions")).json()["results"]
    assert [row["id"] for row in listed] == [neighbour, malformed]
    assert listed[1] == shown == (await api.client.get(f"/api/predictions/{malformed}")).json()
    export = await api.client.get("/api/predictions", params={"format": "csv"})
    assert export.status_code == 200
    assert [record.message for record in caplog.records].count("a stored prediction is malformed") == 1


async def test_a_prediction_that_started_before_its_acceptance_waited_zero_ms(
    api: Api, cat: bytes, finish: Finish, database: asyncpg.Connection
) -> None:
    id = (await api.upload(cat)).json()["id"]
    await finish(id)
    await database.execute('UPDATE predictions SET started_at = "timestamp" WHERE id = $1', id)
    shown = (await api.client.get(f"/api/predictions/{id}")).json()
    assert (shown["metrics"]["queue_ms"], shown["error"]) == (0, None)
