"""Live status: streams show each state once, end, resume without a gap and survive a lost connection."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
from httpx_sse import aconnect_sse

from tests.backend.conftest import Api
from tests.conftest import eventually

Finish = Callable[[str], Awaitable[None]]


async def test_a_stream_shows_the_states_in_order_and_ends(api: Api, cat: bytes, finish: Finish) -> None:
    prediction = (await api.upload(cat)).json()
    following = asyncio.create_task(api.follow(prediction["urls"]["events"], 10))
    await eventually(lambda: is_followed(api))
    await finish(prediction["id"])
    events = await following
    statuses = [json.loads(event.data)["status"] for event in events]
    assert {event.event for event in events} == {"prediction"}
    assert all(event.id for event in events)
    # Two commits may be read at once: `running` may be skipped, nothing may be repeated or reordered.
    assert statuses in (["queued", "running", "succeeded"], ["queued", "succeeded"])


async def test_a_stream_of_a_finished_prediction_is_its_outcome_alone(
    api: Api, cat: bytes, finish: Finish
) -> None:
    prediction = (await api.upload(cat)).json()
    await finish(prediction["id"])
    (event,) = await api.follow(prediction["urls"]["events"], 10)
    assert json.loads(event.data)["prediction"] == "cat"


async def test_a_stream_ends_when_its_prediction_is_removed(api: Api, cat: bytes) -> None:
    urls = (await api.upload(cat)).json()["urls"]
    following = asyncio.create_task(api.follow(urls["events"], 10))
    await eventually(lambda: is_followed(api))
    assert (await api.client.delete(urls["self"])).status_code == 204
    (event,) = await following
    assert json.loads(event.data)["status"] == "queued"


async def test_a_stream_ends_though_nobody_heard_that_its_prediction_was_removed(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    gone, stays = (row["urls"] for row in (await api.upload(cat, cat)).json()["predictions"])
    following = [asyncio.create_task(api.follow(urls["events"], 10)) for urls in (gone, stays)]
    await eventually(lambda: is_followed(api, 2))
    await database.execute("ALTER TABLE predictions DISABLE TRIGGER predictions_deleted")
    try:
        await api.client.delete(gone["self"])
    finally:
        await database.execute("ALTER TABLE predictions ENABLE TRIGGER predictions_deleted")
    await database.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"""
    )
    assert len(await following[0]) == 1
    assert not following[1].done()
    following[1].cancel()


async def test_who_waits_for_several_waits_on_when_one_is_removed(
    api: Api, cat: bytes, finish: Finish, database: asyncpg.Connection
) -> None:
    upload = asyncio.create_task(api.upload(cat, cat, Prefer="wait=2"))

    async def stored() -> list[str]:
        return [str(row["id"]) for row in await database.fetch("SELECT id FROM predictions ORDER BY id")]

    gone, stays = await eventually(stored)
    await api.client.delete(f"/api/predictions/{gone}")
    await finish(stays)
    answer = await upload
    assert [row["status"] for row in answer.json()["predictions"]] == ["queued", "succeeded"]


async def test_a_withdrawn_prediction_is_the_last_event_of_its_stream(api: Api, cat: bytes) -> None:
    urls = (await api.upload(cat)).json()["urls"]
    following = asyncio.create_task(api.follow(urls["events"], 10))
    await eventually(lambda: is_followed(api))
    await api.client.post(f"{urls['self']}/cancel")
    *_, last = await following
    assert json.loads(last.data)["status"] == "canceled"


async def test_a_reader_that_saw_the_outcome_is_told_to_stop(api: Api, cat: bytes, finish: Finish) -> None:
    prediction = (await api.upload(cat)).json()
    url = prediction["urls"]["events"]
    (first,) = await api.follow(url, 1)
    await finish(prediction["id"])
    (outcome,) = await api.follow(url, 10, **{"Last-Event-ID": first.id})
    assert json.loads(outcome.data)["status"] == "succeeded"
    answer = await api.client.get(url, headers={"Last-Event-ID": outcome.id})
    assert answer.status_code == 204


async def test_the_stream_of_everything_starts_with_what_is_under_way(
    api: Api, cat: bytes, finish: Finish
) -> None:
    done, waiting = (await api.upload(cat, cat)).json()["predictions"]
    await finish(done["id"])
    (event,) = await api.follow("/api/events", 1)
    assert json.loads(event.data)["id"] == waiting["id"]


async def test_the_stream_of_everything_resumes_without_a_gap_and_without_repeats(
    api: Api, cat: bytes, finish: Finish
) -> None:
    (first,) = (await api.upload(cat, cat)).json()["predictions"][:1]
    events = await api.follow("/api/events", 2)
    await finish(first["id"])
    missed = (await api.upload(cat)).json()
    resumed = await api.follow("/api/events", 2, **{"Last-Event-ID": events[-1].id})
    seen = {json.loads(event.data)["id"]: json.loads(event.data)["status"] for event in resumed}
    assert seen == {first["id"]: "succeeded", missed["id"]: "queued"}


async def test_an_event_id_that_is_none_is_a_problem(api: Api) -> None:
    answer = await api.client.get("/api/events", headers={"Last-Event-ID": "x"})
    assert answer.status_code == 422


async def test_a_change_is_seen_though_its_notification_was_lost(
    api: Api, cat: bytes, finish: Finish, database: asyncpg.Connection
) -> None:
    prediction = (await api.upload(cat)).json()
    following = asyncio.create_task(api.follow(prediction["urls"]["events"], 10))
    await eventually(lambda: is_followed(api))
    await database.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"""
    )
    await finish(prediction["id"])
    events = await following
    assert json.loads(events[-1].data)["status"] == "succeeded"


async def test_closing_ends_open_streams(api: Api) -> None:
    async with aconnect_sse(api.client, "GET", "/api/events") as stream:
        await eventually(lambda: is_followed(api))
        api.services.changes.close()
        async with asyncio.timeout(5):
            assert [event async for event in stream.aiter_sse()] == []


async def test_a_reader_that_leaves_is_forgotten(api: Api, cat: bytes) -> None:
    prediction = (await api.upload(cat)).json()
    await api.follow(prediction["urls"]["events"], 1)

    async def forgotten() -> bool:
        return not await is_followed(api)

    await eventually(forgotten)


async def is_followed(api: Api, readers: int = 1) -> Any:
    changes = api.services.changes
    return len(changes._followed) + len(changes._awaited) >= readers


async def test_streams_are_not_buffered_on_the_way(api: Api) -> None:
    async with api.client.stream("GET", "/api/events") as answer:
        assert isinstance(answer, httpx.Response)
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["content-type"].startswith("text/event-stream")
