"""The history: pages, filters, single predictions and their images."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from uuid import uuid4

import asyncpg
import pytest
from PIL import Image

from backend.errors import BadParameter
from backend.history import decode_cursor, encode_cursor
from tests.backend.conftest import PROBABILITIES, Api
from tests.backend.test_predict import assert_problem

START = datetime(2026, 1, 1, tzinfo=UTC)


async def insert(
    database: asyncpg.Connection, minute: int, label: str | None, confidence: float = 0.5
) -> str:
    """A row accepted `minute` minutes after START, its id made for that moment."""
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


async def test_one_prediction_and_what_the_model_saw(api: Api, database: asyncpg.Connection) -> None:
    id = await insert(database, 0, "cat")
    prediction = (await api.client.get(f"/api/predictions/{id}")).json()
    assert prediction["prediction"] == "cat"
    assert prediction["timestamp"] == "2026-01-01T00:00:00Z"
    answer = await api.client.get(prediction["urls"]["image"])
    assert answer.headers["content-type"] == "image/png"
    image = Image.open(BytesIO(answer.content))
    assert (image.size, image.mode, image.getpixel((5, 5))) == ((32, 32), "RGB", (127, 127, 127))


async def test_a_prediction_tells_whether_the_image_is_unfamiliar(
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


def test_a_cursor_survives_its_round_trip_and_damage_is_noticed() -> None:
    id = uuid4()
    cursor = encode_cursor("newer", id)
    assert decode_cursor(cursor) == ("newer", id)
    with pytest.raises(BadParameter):
        decode_cursor(cursor[:-2])
