"""The history: pages, filters, single predictions and their images."""

from datetime import timedelta
from io import BytesIO
from uuid import uuid4

import asyncpg
import pytest
from PIL import Image

from backend.errors import Refusal
from backend.history import decode_cursor, encode_cursor
from tests.backend.conftest import START, Api, assert_problem, insert, list_minutes, refuses


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
        pages.append([row["filename"][6] for row in last["results"]])  # <minute> of image_<minute>%.png
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
    assert await list_minutes(api) == [3, 2, 1, 0]
    assert await list_minutes(api, label="cat") == [2, 0]
    assert await list_minutes(api, label="cat", min_confidence=0.5) == [0]
    assert await list_minutes(api, status="queued") == [3]
    # The names are image_<minute>%.png. In a search, _ and % stand for themselves.
    assert await list_minutes(api, q="_1%") == [1]
    assert await list_minutes(api, q="%3") == []
    at = {minute: (START + timedelta(minutes=minute)).isoformat() for minute in range(4)}
    assert await list_minutes(api, **{"from": at[1], "to": at[3]}) == [2, 1]


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
        ("2026-01-01T02:00:00+02", 0),
        ("2026-01-01T01:59:59.5%2B02", 1),
        ("2026-01-01T02:00-02", 0),
        ("2026-01-01T01:59:59+02:00", 1),
        ("2026-01-01T02:00:00-02:00", 0),
        ("2026-01-01+00:00:00", 0),
    ],
)
async def test_a_time_may_have_an_unencoded_plus_and_an_offset_without_minutes(
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


async def test_a_name_is_found_in_any_case_and_unicode_form(api: Api, cat: bytes) -> None:
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
async def test_an_unknown_or_malformed_id_is_a_problem(part: str, api: Api) -> None:
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


def test_a_cursor_is_decoded_and_a_damaged_one_is_refused() -> None:
    id = uuid4()
    cursor = encode_cursor("newer", id)
    assert decode_cursor(cursor) == ("newer", id)
    with refuses(Refusal.BAD_PARAMETER):
        decode_cursor(cursor[:-2])
