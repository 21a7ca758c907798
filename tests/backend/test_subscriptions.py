"""Many readers of live status: how they are woken, cut off and forgotten."""

import asyncio
from collections import Counter
from contextlib import ExitStack

import pytest
from httpx_sse import aconnect_sse

from backend import events
from backend.events import SENT_TOGETHER
from backend.schemas.predictions import Prediction
from backend.subscriptions import MAX_BACKLOG, Change, Subscription
from tests.backend.conftest import Api, Finish
from tests.conftest import eventually, read_events


async def test_a_reader_that_is_too_slow_is_cut_off(api: Api, cat: bytes) -> None:
    prediction = Prediction.model_validate((await api.upload(cat)).json())
    subscription = Subscription()
    for number in range(MAX_BACKLOG + 5):
        subscription.put(Change(number, prediction.id, prediction))
    assert len(await subscription.read() or []) == MAX_BACKLOG
    assert await subscription.read() is None


async def test_only_a_few_streams_send_in_one_turn_of_the_event_loop(api: Api, cat: bytes) -> None:
    turn = 0  # of the event loop
    readers_in_turn: Counter[int] = Counter()

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def read(subscription: Subscription) -> None:
        assert await subscription.read()
        readers_in_turn[turn] += 1

    with ExitStack() as stack:
        streams = [stack.enter_context(api.services.events.streams.add()) for _ in range(100)]
        clock = asyncio.create_task(count_turns())
        async with asyncio.timeout(10):
            await asyncio.gather(api.upload(cat), *map(read, streams))
        clock.cancel()
    assert readers_in_turn.total() == 100
    assert max(readers_in_turn.values()) <= SENT_TOGETHER


async def test_many_streams_collect_the_changes_of_a_prediction(
    api: Api, cat: bytes, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "COLLECT_SECONDS", 0.1)

    async def predict() -> None:
        await finish((await api.upload(cat)).json()["id"])

    with ExitStack() as stack:
        # COLLECT_SECONDS is for each stream: the pause before 20 streams are woken is 2 s.
        streams = [stack.enter_context(api.services.events.streams.add()) for _ in range(20)]
        async with asyncio.timeout(10):
            *received, _ = await asyncio.gather(*(stream.read() for stream in streams), predict())
    for changes in received:
        statuses = [change.prediction and change.prediction.status for change in changes or ()]
        assert len(statuses) >= 2
        assert statuses[-1] == "succeeded"


async def test_closing_ends_open_streams(api: Api) -> None:
    async with aconnect_sse(api.client, "GET", "/api/events") as stream:
        await eventually(lambda: is_followed(api))
        api.services.events.close()
        async with asyncio.timeout(5):
            assert [event async for event in read_events(stream)] == []


async def test_a_reader_that_leaves_is_forgotten(api: Api, cat: bytes) -> None:
    prediction = (await api.upload(cat)).json()
    await api.follow(prediction["urls"]["events"], 1)

    async def forgotten() -> bool:
        return not await is_followed(api)

    await eventually(forgotten)


async def is_followed(api: Api) -> bool:
    return bool(api.services.events.streams or api.services.events.awaited)
