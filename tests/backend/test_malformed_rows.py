"""Stored rows with details that no worker writes, and a prediction whose time in the queue is zero."""

import asyncio
import json

import asyncpg
import pytest
from httpx_sse import aconnect_sse

from tests.backend.conftest import Api, Finish
from tests.conftest import read_events

# SQL for `probabilities` and `started_at`.
MALFORMED = {
    "an object": ("""'{"cat": 0.9}'::jsonb""", "now()"),
    "pairs": ("""'[["cat", 0.9]]'::jsonb""", "now()"),
    "a text": ("""'"cat"'::jsonb""", "now()"),
    "null": ("'null'::jsonb", "now()"),
    "infinite probability": ("""'[{"label": "cat", "probability": 1e400}]'::jsonb""", "now()"),
    "deep": ("(repeat('[', 3000) || repeat(']', 3000))::jsonb", "now()"),
    "infinite time": ("'[]'::jsonb", "'infinity'"),
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
        events = read_events(stream)
        assert json.loads((await anext(events)).data)["id"] == neighbour
        await malform(database, malformed, kind)
        shown = json.loads((await anext(events)).data)
        assert (shown["id"], shown["prediction"], shown["probabilities"]) == (malformed, "cat", [])
        assert shown["error"]["title"] == "The stored details cannot be read"
        await finish(neighbour)
        event = await anext(events)  # "running" is missing if one read finds both changes
        if json.loads(event.data)["status"] == "running":
            event = await anext(events)
        assert (json.loads(event.data)["id"], json.loads(event.data)["status"]) == (neighbour, "succeeded")
    listed = (await api.client.get("/api/predictions")).json()["results"]
    assert [row["id"] for row in listed] == [neighbour, malformed]
    assert listed[1] == shown == (await api.client.get(f"/api/predictions/{malformed}")).json()
    export = await api.client.get("/api/predictions", params={"format": "csv"})
    assert export.status_code == 200
    assert [record.message for record in caplog.records].count("a stored prediction is malformed") == 1


async def test_a_prediction_that_started_when_it_was_accepted_waited_zero_ms(
    api: Api, cat: bytes, finish: Finish, database: asyncpg.Connection
) -> None:
    id = (await api.upload(cat)).json()["id"]
    await finish(id)
    await database.execute('UPDATE predictions SET started_at = "timestamp" WHERE id = $1', id)
    shown = (await api.client.get(f"/api/predictions/{id}")).json()
    assert (shown["metrics"]["queue_ms"], shown["error"]) == (0, None)
