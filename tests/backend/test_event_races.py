"""Streams and waiting requests that begin while a read of events or predictions is held.

The read is held before its query, or after its query and before the answer is processed.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from httpx_sse import ServerSentEvent

from tests.backend.conftest import Api, Finish, Reader
from tests.conftest import eventually


class Hold:
    """Holds each call of one method of the event log, before or after its query, until `release`."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch, name: str, moment: str) -> None:
        self.reached = asyncio.Event()
        self._released = asyncio.Event()
        self._moment = moment
        in_loop = name == "read_after"  # the loop in backend/events.py has its own `EventLog`
        log = api.services.events._log if in_loop else api.services.event_log
        self._read: Callable[..., Awaitable[Any]] = getattr(log, name)
        monkeypatch.setattr(log, name, self._held)

    async def _held(self, *arguments: Any) -> Any:
        if self._moment == "before":
            await self._wait()
            return await self._read(*arguments)
        answer = await self._read(*arguments)
        await self._wait()
        return answer

    async def _wait(self) -> None:
        self.reached.set()
        await self._released.wait()

    def release(self) -> None:
        self._released.set()


def statuses(events: list[ServerSentEvent], id: str) -> list[str]:
    contents = [json.loads(event.data) for event in events]
    return [content["status"] for content in contents if content["id"] == id]


@pytest.fixture(params=["before", "after"])
def moment(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_a_stream_that_joins_during_a_read_misses_no_outcome(
    api: Api, cat: bytes, finish: Finish, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed, followed_later = (await api.upload(cat, cat)).json()["predictions"]
    first = Reader(api, followed["urls"]["events"])
    await first.until(1)
    hold = Hold(api, monkeypatch, "read_after", moment)
    await finish(followed["id"])
    await hold.reached.wait()
    second = Reader(api, followed_later["urls"]["events"])
    await second.until(1)
    await finish(followed_later["id"])
    hold.release()
    await first.done
    await second.done
    assert statuses(second.events, followed_later["id"]) == ["queued", "succeeded"]


async def test_a_request_that_begins_to_wait_during_a_read_gets_its_outcome(
    api: Api,
    cat: bytes,
    finish: Finish,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
    database: asyncpg.Connection,
) -> None:
    followed = (await api.upload(cat)).json()
    reader = Reader(api, followed["urls"]["events"])
    await reader.until(1)
    hold = Hold(api, monkeypatch, "read_after", moment)
    await finish(followed["id"])
    await hold.reached.wait()
    upload = asyncio.create_task(api.upload(cat, Prefer="wait=8"))

    async def stored() -> Any:
        return await database.fetchval("SELECT id FROM predictions WHERE id <> $1", followed["id"])

    await finish(str(await eventually(stored)))
    hold.release()
    answer = await upload
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    await reader.done


async def test_the_first_stream_misses_no_outcome_if_it_joins_during_a_read(
    api: Api, cat: bytes, finish: Finish, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = (await api.upload(cat)).json()
    hold = Hold(api, monkeypatch, "read_after", moment)
    api.services.events._wake.set()  # as after five seconds without a notification
    await hold.reached.wait()
    reader = Reader(api, "/api/events")
    await reader.until(1)
    await finish(prediction["id"])
    hold.release()

    async def has_succeeded() -> bool:
        return statuses(reader.events, prediction["id"])[-1] == "succeeded"

    await eventually(has_succeeded)
    reader.done.cancel()


@pytest.mark.parametrize("url", ["/api/events", "{self}/events"])
async def test_no_status_goes_backwards_when_a_stream_opens(
    url: str,
    api: Api,
    cat: bytes,
    finish: Finish,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
    database: asyncpg.Connection,
) -> None:
    prediction = (await api.upload(cat)).json()
    witness = Reader(api, "/api/events")
    await witness.until(1)
    if url == "/api/events":
        hold = Hold(api, monkeypatch, "read_unfinished", moment)
    else:
        # `Hold` wraps a method of the event log. So `predictions.read` is first copied there, and the wrapped
        # method is then copied back.
        monkeypatch.setattr(api.services.event_log, "read", api.services.predictions.read, raising=False)
        hold = Hold(api, monkeypatch, "read", moment)
        monkeypatch.setattr(api.services.predictions, "read", hold._held)
    reader = Reader(api, url.format(**prediction["urls"]))
    await hold.reached.wait()
    await database.execute("UPDATE predictions SET attempt = 1")
    await witness.until(2)
    await database.execute("UPDATE predictions SET status = 'running', started_at = now()")
    await witness.until(3)
    hold.release()
    await reader.until(1)
    await finish(prediction["id"])

    async def has_succeeded() -> bool:
        return statuses(reader.events, prediction["id"])[-1] == "succeeded"

    await eventually(has_succeeded)
    order = ["queued", "running", "succeeded"]
    places = [order.index(status) for status in statuses(reader.events, prediction["id"])]
    assert places == sorted(places)
    assert places.count(2) == 1
    assert moment == "after" or places[0] == 1  # a read that is held before its query finds `running`
    reader.done.cancel()
    witness.done.cancel()
