"""Live status: streams end, resume without a gap or a repeat, and survive a lost notification."""

import asyncio
import json

import asyncpg
import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from tests.backend.conftest import Api, Finish, Reader, assert_problem, cut_listeners
from tests.conftest import eventually, read_events


async def test_a_stream_sends_the_statuses_in_order_and_ends(api: Api, cat: bytes, finish: Finish) -> None:
    prediction = (await api.upload(cat)).json()
    reader = Reader(api, prediction["urls"]["events"])
    await reader.until(1)
    await finish(prediction["id"])
    await reader.done
    statuses = [json.loads(event.data)["status"] for event in reader.events]
    assert {event.event for event in reader.events} == {"prediction"}
    assert all(event.id for event in reader.events)
    # One read may see two commits, so `running` may be missing. Nothing is repeated or reordered.
    assert statuses in (["queued", "running", "succeeded"], ["queued", "succeeded"])


async def test_the_stream_of_an_ended_prediction_sends_only_its_outcome(
    api: Api, cat: bytes, finish: Finish
) -> None:
    prediction = (await api.upload(cat)).json()
    await finish(prediction["id"])
    (event,) = await api.follow(prediction["urls"]["events"], 10)
    assert json.loads(event.data)["prediction"] == "cat"


async def test_a_stream_ends_when_its_prediction_is_removed(api: Api, cat: bytes) -> None:
    prediction = (await api.upload(cat)).json()
    reader = Reader(api, prediction["urls"]["events"])
    await reader.until(1)
    assert (await api.client.delete(prediction["urls"]["self"])).status_code == 204
    await reader.done
    assert [event.event for event in reader.events] == ["prediction", "deleted"]
    assert json.loads(reader.events[1].data) == {"id": prediction["id"]}


async def test_a_removal_is_sent_although_its_notification_was_lost(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    gone, stays = (row["urls"] for row in (await api.upload(cat, cat)).json()["predictions"])
    readers = [Reader(api, urls["events"]) for urls in (gone, stays)]
    for reader in readers:
        await reader.until(1)
    await cut_listeners(database)
    await api.client.delete(gone["self"])
    await readers[0].done
    assert [event.event for event in readers[0].events] == ["prediction", "deleted"]
    assert not readers[1].done.done()
    readers[1].done.cancel()


async def test_the_stream_of_all_predictions_sends_each_removal_once(api: Api, cat: bytes) -> None:
    gone, _ = (await api.upload(cat, cat)).json()["predictions"]
    reader = Reader(api, "/api/events")
    await reader.until(2)
    await api.client.delete(gone["urls"]["self"])
    await reader.until(3)
    removal = reader.events[2]
    assert (removal.event, json.loads(removal.data)) == ("deleted", {"id": gone["id"]})
    # After the first event come the other prediction and the removal; after the second, only the removal.
    for place, event in enumerate(reader.events[:2]):
        (missed, *_) = await api.follow("/api/events", 2 - place, **{"Last-Event-ID": event.id})
        assert place == 0 or missed.event == "deleted"
    last = (await api.upload(cat)).json()["id"]
    assert await resume(api, removal, last) == [(last, "queued")]
    reader.done.cancel()


async def test_a_wait_for_two_predictions_goes_on_when_one_is_deleted(
    api: Api, cat: bytes, finish: Finish, database: asyncpg.Connection
) -> None:
    upload = asyncio.create_task(api.upload(cat, cat, Prefer="wait=60"))

    async def stored() -> list[str]:
        return [str(row["id"]) for row in await database.fetch("SELECT id FROM predictions ORDER BY id")]

    gone, stays = await eventually(stored)
    await api.client.delete(f"/api/predictions/{gone}")
    await finish(stays)
    answer = await upload
    assert [row["status"] for row in answer.json()["predictions"]] == ["queued", "succeeded"]


async def test_a_stream_ends_when_its_prediction_is_canceled(api: Api, cat: bytes) -> None:
    urls = (await api.upload(cat)).json()["urls"]
    reader = Reader(api, urls["events"])
    await reader.until(1)
    await api.client.post(f"{urls['self']}/cancel")
    await reader.done
    assert json.loads(reader.events[-1].data)["status"] == "canceled"


async def test_a_reader_that_received_the_outcome_gets_204(api: Api, cat: bytes, finish: Finish) -> None:
    prediction = (await api.upload(cat)).json()
    url = prediction["urls"]["events"]
    (first,) = await api.follow(url, 1)
    await finish(prediction["id"])
    (outcome,) = await api.follow(url, 10, **{"Last-Event-ID": first.id})
    assert json.loads(outcome.data)["status"] == "succeeded"
    answer = await api.client.get(url, headers={"Last-Event-ID": outcome.id})
    assert answer.status_code == 204


async def test_the_stream_of_all_predictions_starts_with_the_unfinished_ones(
    api: Api, cat: bytes, finish: Finish
) -> None:
    done, waiting = (await api.upload(cat, cat)).json()["predictions"]
    await finish(done["id"])
    (event,) = await api.follow("/api/events", 1)
    assert json.loads(event.data)["id"] == waiting["id"]


def read_statuses(events: list[ServerSentEvent]) -> list[tuple[str, str]]:
    """Events as pairs: the id and the status of the prediction."""
    contents = [json.loads(event.data) for event in events]
    return [(content["id"], content["status"]) for content in contents]


async def resume(api: Api, event: ServerSentEvent, last: str) -> list[tuple[str, str]]:
    """The events of the stream of all predictions after `event`, up to the prediction `last`."""
    received: list[tuple[str, str]] = []
    async with (
        asyncio.timeout(10),
        aconnect_sse(api.client, "GET", "/api/events", headers={"Last-Event-ID": event.id}) as stream,
    ):
        async for next_event in read_events(stream):
            received += read_statuses([next_event])
            if received[-1][0] == last:
                break
    return received


async def test_the_stream_of_all_predictions_resumes_after_each_event_without_a_gap(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    ids = [row["id"] for _ in range(3) for row in [(await api.upload(cat)).json()]]
    reader = Reader(api, "/api/events")
    await reader.until(3)
    await database.execute("UPDATE predictions SET status = 'running', started_at = now(), attempt = 1")
    await reader.until(6)  # three events of the start, three of the UPDATE
    first, second = reader.events[:3], reader.events[3:]
    assert read_statuses(reader.events) == [(id, "queued") for id in ids] + [(id, "running") for id in ids]
    last = (await api.upload(cat)).json()["id"]
    for event in first:  # all predictions have changed since
        assert await resume(api, event, last) == [(id, "running") for id in ids] + [(last, "queued")]
    for place, event in enumerate(second, start=1):
        received = await resume(api, event, last)
        assert set(received) >= {(id, "running") for id in ids[place:]}
        # After the latest event, only the new upload follows.
        assert event is not second[-1] or received == [(last, "queued")]
    reader.done.cancel()


async def test_a_reader_that_saw_a_part_of_the_unfinished_predictions_receives_the_rest(
    api: Api, cat: bytes
) -> None:
    ids = [row["id"] for _ in range(3) for row in [(await api.upload(cat)).json()]]
    events = await api.follow("/api/events", 3)
    last = (await api.upload(cat)).json()["id"]
    for place, event in enumerate(events, start=1):
        received = {id for id, _ in await resume(api, event, last)}
        assert received >= {*ids[place:], last}
        assert place < 3 or received == {last}


async def test_a_reader_that_saw_a_part_of_the_events_of_a_statement_receives_only_the_rest(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    ids = [row["id"] for _ in range(3) for row in [(await api.upload(cat)).json()]]
    reader = Reader(api, "/api/events")
    await reader.until(3)
    await database.execute("UPDATE predictions SET status = 'canceled', completed_at = now()")
    await reader.until(6)
    last = (await api.upload(cat)).json()["id"]
    for place, event in enumerate(reader.events[3:6], start=1):
        received = await resume(api, event, last)
        assert received == [(id, "canceled") for id in ids[place:]] + [(last, "queued")]
    reader.done.cancel()


async def test_a_reader_that_received_the_outcome_gets_204_despite_later_feedback(
    api: Api, cat: bytes, finish: Finish
) -> None:
    prediction = (await api.upload(cat)).json()
    await finish(prediction["id"])
    (outcome,) = await api.follow(prediction["urls"]["events"], 10)
    await api.client.put(f"{prediction['urls']['self']}/feedback", json={"label": "dog"})
    headers = {"Last-Event-ID": outcome.id}
    assert (await api.client.get(prediction["urls"]["events"], headers=headers)).status_code == 204


@pytest.mark.parametrize("id", ["x", "-1", "1-", "1.5", "9" * 19])
async def test_an_invalid_event_id_is_refused(id: str, api: Api, cat: bytes) -> None:
    one = (await api.upload(cat)).json()["urls"]["events"]
    for url in ("/api/events", one):
        answer = await api.client.get(url, headers={"Last-Event-ID": id})
        assert_problem(answer, 422, "Leave it out")


async def test_a_change_is_sent_although_its_notification_was_lost(
    api: Api, cat: bytes, finish: Finish, database: asyncpg.Connection
) -> None:
    prediction = (await api.upload(cat)).json()
    reader = Reader(api, prediction["urls"]["events"])
    await reader.until(1)
    await cut_listeners(database)
    await finish(prediction["id"])
    await reader.done
    assert json.loads(reader.events[-1].data)["status"] == "succeeded"


async def test_the_headers_of_a_stream_forbid_buffering_and_caching(api: Api) -> None:
    async with api.client.stream("GET", "/api/events") as answer:
        assert isinstance(answer, httpx.Response)
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"].startswith("text/event-stream")
