"""RabbitMQ: failed attempts to open channels are repeated, and 100 messages are published at a time."""

import asyncio
import logging
from typing import Any
from uuid import uuid4

import pytest

from backend.broker import PUBLISHED_TOGETHER, Broker
from backend.errors import Unavailable
from backend.messages import INFERENCE, build_messages
from scripts.local.config import Config
from tests.conftest import eventually


async def test_channels_that_cannot_be_opened_are_tried_again(
    servers: Config, caplog: pytest.LogCaptureFixture
) -> None:
    # The user `worker` may not create a queue for events, so each attempt fails at the second channel.
    broker = Broker(servers.broker_url("worker"), lambda _event: None)
    with caplog.at_level(logging.WARNING, "backend.broker"):
        await broker.open()

        async def tried_twice() -> bool:
            return sum("trying again" in record.message for record in caplog.records) >= 2

        await eventually(tried_twice)
    assert broker.connected
    assert (await broker.inspect("inference")).consumers == 0
    async with asyncio.timeout(5):
        await broker.close()


class Exchange:
    """Replaces the channel and its exchange.

    Confirms messages that are published together, once all of them have arrived. `refused`: the number of a
    message, counted from 0. This message, the others of its hundred and all later messages are refused.
    """

    def __init__(self, refused: int | None = None) -> None:
        self.counts: list[int] = []
        self._refused = refused
        self._together = 0

    async def publish(self, *_arguments: Any, **_options: Any) -> None:
        self._together += 1
        await asyncio.sleep(0)
        if self._together:
            self.counts.append(self._together)
            self._together = 0
        if self._refused is not None and sum(self.counts) > self._refused:
            raise OSError("full")

    async def get_exchange(self, _name: str, **_options: Any) -> "Exchange":
        return self


async def publish_through(exchange: Exchange, count: int) -> None:
    broker = Broker("amqp://127.0.0.1:1", lambda _event: None)
    broker._channel = exchange  # pyright: ignore[reportAttributeAccessIssue]
    await broker.publish([build_messages(INFERENCE, [(uuid4(), None)])[0] for _ in range(count)])


async def test_100_messages_are_published_at_a_time() -> None:
    exchange = Exchange()
    await publish_through(exchange, 2 * PUBLISHED_TOGETHER + 1)
    assert exchange.counts == [PUBLISHED_TOGETHER, PUBLISHED_TOGETHER, 1]


async def test_messages_after_unconfirmed_ones_are_not_sent() -> None:
    exchange = Exchange(refused=PUBLISHED_TOGETHER)
    with pytest.raises(Unavailable, match="100 of 100 messages unconfirmed"):
        await publish_through(exchange, 5 * PUBLISHED_TOGETHER)
    assert exchange.counts == [PUBLISHED_TOGETHER] * 2
