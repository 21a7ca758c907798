"""The stream of a training: its status, each epoch once, resumed without a gap."""

import json
from typing import Any

import asyncpg
import pytest
from httpx_sse import ServerSentEvent

from tests.backend.conftest import Api, Reader, assert_problem, cut_listeners
from tests.backend.test_trainings import CLAIM, EPOCH, FAIL, SUCCEED, start
from tests.conftest import eventually


def shorten(events: list[ServerSentEvent]) -> list[Any]:
    """Short forms of events: the status of a training, the number of an epoch."""
    contents = [json.loads(event.data) for event in events]
    names = {"training": "status", "epoch": "number"}
    return [content[names[event.event]] for event, content in zip(events, contents, strict=True)]


async def add_epochs(database: asyncpg.Connection, id: str, *numbers: int) -> None:
    for number in numbers:
        await database.execute(EPOCH, id, number)


@pytest.fixture
async def training(api: Api, database: asyncpg.Connection) -> dict[str, Any]:
    """A running training."""
    training = await start(api)
    await database.execute(CLAIM, training["id"])
    return training


async def test_a_stream_sends_statuses_and_epochs_as_they_come_and_then_ends(
    api: Api, database: asyncpg.Connection
) -> None:
    training = await start(api)
    id = training["id"]
    reader = Reader(api, training["urls"]["events"])
    await reader.until(1)
    await database.execute(CLAIM, id)
    await reader.until(2)
    for number in (1, 2):
        await add_epochs(database, id, number)
        await reader.until(2 + number)
    await database.execute("UPDATE trainings SET phase = 'evaluating' WHERE id = $1", id)
    await reader.until(5)
    await database.execute(SUCCEED, id)
    await reader.done
    assert shorten(reader.events) == ["queued", "running", 1, 2, "running", "succeeded"]
    assert {event.event for event in reader.events} == {"training", "epoch"}
    assert "curve" not in json.loads(reader.events[0].data)
    assert json.loads(reader.events[4].data)["phase"] == "evaluating"
    assert json.loads(reader.events[2].data)["validation_accuracy"] == 0.5


async def test_a_stream_starts_with_the_current_status_and_the_epochs_so_far(
    api: Api, database: asyncpg.Connection, training: dict[str, Any]
) -> None:
    await add_epochs(database, training["id"], 1, 2, 3)
    assert shorten(await api.follow(training["urls"]["events"], 4)) == ["running", 1, 2, 3]


@pytest.mark.parametrize("end", [SUCCEED, FAIL])
async def test_the_stream_of_an_ended_training_sends_its_epochs_and_then_its_outcome(
    end: str, api: Api, database: asyncpg.Connection, training: dict[str, Any]
) -> None:
    await add_epochs(database, training["id"], 1, 2)
    await database.execute(end, training["id"])
    events = await api.follow(training["urls"]["events"], 10)
    assert shorten(events)[:2] == [1, 2]
    assert [event.event for event in events] == ["epoch", "epoch", "training"]


async def test_a_reader_that_received_the_outcome_gets_204(
    api: Api, database: asyncpg.Connection, training: dict[str, Any]
) -> None:
    await add_epochs(database, training["id"], 1)
    await database.execute(SUCCEED, training["id"])
    epoch, outcome = await api.follow(training["urls"]["events"], 10)
    headers = {"Last-Event-ID": outcome.id}
    assert (await api.client.get(training["urls"]["events"], headers=headers)).status_code == 204
    resumed = await api.follow(training["urls"]["events"], 10, **{"Last-Event-ID": epoch.id})
    assert shorten(resumed) == ["succeeded"]


async def test_a_stream_resumes_after_any_event_without_gap_or_repeated_epoch(
    api: Api, database: asyncpg.Connection, training: dict[str, Any]
) -> None:
    await add_epochs(database, training["id"], 1, 2, 3)
    url = training["urls"]["events"]
    events = await api.follow(url, 4)  # one read finds all epochs, but a reader can resume after each event
    await add_epochs(database, training["id"], 4, 5)
    for event, missed in zip(events, ([1, 2, 3, 4, 5], [2, 3, 4, 5], [3, 4, 5], [4, 5]), strict=True):
        resumed = await api.follow(url, 1 + len(missed), **{"Last-Event-ID": event.id})
        assert shorten(resumed) == ["running", *missed]
    await database.execute(SUCCEED, training["id"])
    assert shorten(await api.follow(url, 10, **{"Last-Event-ID": events[2].id})) == [3, 4, 5, "succeeded"]


async def test_an_update_of_seen_at_is_no_event(
    api: Api, database: asyncpg.Connection, training: dict[str, Any]
) -> None:
    reader = Reader(api, training["urls"]["events"])
    await reader.until(1)
    for _ in range(3):
        await database.execute("UPDATE trainings SET seen_at = now() WHERE id = $1", training["id"])
    await add_epochs(database, training["id"], 1)
    await reader.until(2)
    await database.execute(SUCCEED, training["id"])
    await reader.done
    assert shorten(reader.events) == ["running", 1, "succeeded"]


async def test_a_cancel_ends_the_stream(api: Api, training: dict[str, Any]) -> None:
    reader = Reader(api, training["urls"]["events"])
    await reader.until(1)
    await api.client.post(training["urls"]["cancel"])
    await reader.done
    assert shorten(reader.events) == ["running", "canceled"]


async def test_an_epoch_is_sent_although_the_listening_connection_was_lost(
    api: Api, database: asyncpg.Connection, training: dict[str, Any]
) -> None:
    reader = Reader(api, training["urls"]["events"])
    await reader.until(1)
    await cut_listeners(database)
    await add_epochs(database, training["id"], 1)
    await reader.until(2)
    await database.execute(SUCCEED, training["id"])
    await reader.done
    assert shorten(reader.events) == ["running", 1, "succeeded"]


async def test_two_readers_receive_the_same_events_and_none_of_another_training(
    api: Api, database: asyncpg.Connection, training: dict[str, Any]
) -> None:
    other = await start(api)
    readers = [Reader(api, training["urls"]["events"]) for _ in range(2)]
    for reader in readers:
        await reader.until(1)
    await add_epochs(database, other["id"], 1)
    await add_epochs(database, training["id"], 2)
    await database.execute(SUCCEED, training["id"])
    for reader in readers:
        await reader.done
        assert shorten(reader.events) == ["running", 2, "succeeded"]


async def test_shutdown_ends_open_streams_and_a_reader_that_left_is_forgotten(
    api: Api, training: dict[str, Any]
) -> None:
    await api.follow(training["urls"]["events"], 1)

    async def forgotten() -> bool:
        return api.services.events.open_streams == 0

    await eventually(forgotten)
    reader = Reader(api, training["urls"]["events"])
    await reader.until(1)
    assert api.services.events.open_streams == 1
    api.services.events.close()
    await reader.done
    assert shorten(reader.events) == ["running"]


@pytest.mark.parametrize("id", ["x", "1:2", "-1", "1-", "1.5", "end", "9" * 19])
async def test_an_invalid_event_id_is_refused(id: str, api: Api, training: dict[str, Any]) -> None:
    answer = await api.client.get(training["urls"]["events"], headers={"Last-Event-ID": id})
    assert_problem(answer, 422, "Leave it out")


@pytest.mark.parametrize("id", ["812:815:813", "812:812:", "7", "99", "999999999999999999", "3-end"])
async def test_a_reader_with_an_unknown_event_id_receives_all_epochs(
    id: str, api: Api, database: asyncpg.Connection, training: dict[str, Any]
) -> None:
    """The ids are of an earlier release, or of epochs that were lost when an older dump was restored."""
    await add_epochs(database, training["id"], 1, 2)
    events = await api.follow(training["urls"]["events"], 3, **{"Last-Event-ID": id})
    assert shorten(events) == ["running", 1, 2]
    assert [event.id for event in events] == ["0", "1", "2"]
