"""The stream of all predictions after a gap: it sends up to 1,000 missed predictions, or else `reload`."""

import json
from collections.abc import Sequence

import asyncpg
import pytest
from httpx_sse import ServerSentEvent

from backend.event_log import MAX_MISSED
from tests.backend.conftest import Api, Reader, cut_listeners

INSERT = """INSERT INTO predictions (id, filename, "timestamp", pixels)
    SELECT gen_random_uuid(), n || '.png', now(), decode(repeat('00', 3072), 'hex')
    FROM generate_series(1, $1) AS n"""


async def insert(database: asyncpg.Connection, count: int) -> None:
    """Insert in steps: a statement with more than 1,000 rows would make a single event."""
    for start in range(0, count, 500):
        await database.execute(INSERT, min(500, count - start))


def ids(events: Sequence[ServerSentEvent]) -> list[str]:
    return [json.loads(event.data)["id"] for event in events]


async def test_a_reader_that_missed_as_many_predictions_as_allowed_receives_all(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    await api.upload(cat)
    (seen,) = await api.follow("/api/events", 1)
    await insert(database, MAX_MISSED)
    events = await api.follow("/api/events", MAX_MISSED, **{"Last-Event-ID": seen.id})
    assert {event.event for event in events} == {"prediction"}
    assert len(set(ids(events))) == MAX_MISSED


async def test_a_reader_that_missed_more_receives_reload_and_the_unfinished_predictions(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    await api.upload(cat)
    (seen,) = await api.follow("/api/events", 1)
    await insert(database, MAX_MISSED + 1)
    reload, *events = await api.follow("/api/events", MAX_MISSED + 1, **{"Last-Event-ID": seen.id})
    assert (reload.event, json.loads(reload.data)) == ("reload", {})
    assert {event.event for event in events} == {"prediction"}
    highest = await database.fetch("SELECT id FROM predictions ORDER BY id DESC LIMIT $1", MAX_MISSED)
    assert set(ids(events)) == {str(row["id"]) for row in highest}
    # If unfinished predictions follow `reload`, a reader that reconnects with the id of `reload` gets it
    # again.
    (again,) = await api.follow("/api/events", 1, **{"Last-Event-ID": reload.id})
    assert again.event == "reload"
    last = (await api.upload(cat)).json()["id"]
    received = await api.follow("/api/events", 1, **{"Last-Event-ID": events[-1].id})
    assert ids(received) == [last]


@pytest.mark.parametrize("id", ["0", "1", "999999999999999999", "812:815:813", "5-end"])
async def test_a_reader_with_an_unknown_last_event_id_receives_reload(id: str, api: Api, cat: bytes) -> None:
    unfinished = (await api.upload(cat)).json()["id"]
    reload, event = await api.follow("/api/events", 2, **{"Last-Event-ID": id})
    assert reload.event == "reload"
    assert ids([event]) == [unfinished]


async def test_a_reader_can_resume_after_reload_if_no_prediction_is_unfinished(api: Api, cat: bytes) -> None:
    (reload,) = await api.follow("/api/events", 1, **{"Last-Event-ID": "1"})
    last = (await api.upload(cat)).json()["id"]
    assert ids(await api.follow("/api/events", 1, **{"Last-Event-ID": reload.id})) == [last]


async def test_old_events_are_removed_and_a_reader_whose_last_event_was_removed_receives_reload(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    for _ in range(3):
        await api.upload(cat)
    events = await api.follow("/api/events", 3)
    await api.services.event_log.trim(2)
    assert await database.fetchval("SELECT count(*) FROM events") == 2
    (reload,) = await api.follow("/api/events", 1, **{"Last-Event-ID": events[0].id})
    assert reload.event == "reload"
    following = await api.follow("/api/events", 1, **{"Last-Event-ID": events[1].id})
    assert ids(following) == ids(events[2:])


async def test_a_reader_resumes_after_an_event_that_a_crash_has_lost(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    await api.upload(cat)
    reader = Reader(api, "/api/events")
    await reader.until(1)
    await database.execute("UPDATE predictions SET status = 'running', started_at = now()")
    await reader.until(2)
    await database.execute("DELETE FROM events WHERE number = (SELECT max(number) FROM events)")
    last = (await api.upload(cat)).json()["id"]
    await reader.until(3)
    assert ids(reader.events[2:]) == [last]
    assert ids(await api.follow("/api/events", 1, **{"Last-Event-ID": reader.events[1].id})) == [last]
    reader.done.cancel()


async def test_unfinished_predictions_are_sent_although_their_events_are_removed(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    for _ in range(3):
        await api.upload(cat)
    await api.services.event_log.trim(1)
    events = await api.follow("/api/events", 3)
    assert len(set(ids(events))) == 3
    last = (await api.upload(cat)).json()["id"]
    received = await api.follow("/api/events", 1, **{"Last-Event-ID": events[-1].id})
    assert ids(received) == [last]


async def test_a_stream_ends_after_a_very_large_change_and_its_reader_receives_reload(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    await api.upload(cat)
    reader = Reader(api, "/api/events")
    await reader.until(1)
    await database.execute(INSERT, 1001)
    await reader.done
    (reload,) = await api.follow("/api/events", 1, **{"Last-Event-ID": reader.events[-1].id})
    assert reload.event == "reload"
    assert api.services.events.listening


async def test_streams_end_when_events_are_lost_and_new_streams_work(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    """This happens if the database was replaced by another one."""
    await api.upload(cat)
    reader = Reader(api, "/api/events")
    await reader.until(1)
    await database.execute("DELETE FROM events")
    await database.execute("INSERT INTO events VALUES (1000, NULL)")
    await cut_listeners(database)
    await reader.done
    again = Reader(api, "/api/events")
    await again.until(1)
    last = (await api.upload(cat)).json()["id"]
    await again.until(2)
    assert ids(again.events)[1] == last
    again.done.cancel()
