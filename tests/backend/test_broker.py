"""The way to RabbitMQ: set up whatever comes in between."""

import asyncio
import logging

import pytest

from backend.broker import Broker
from scripts.local.config import Config
from tests.conftest import eventually


async def test_channels_that_cannot_be_set_up_are_tried_again(
    servers: Config, caplog: pytest.LogCaptureFixture
) -> None:
    # The worker's user may not make a queue for the events of workers: the broker refuses, as one does
    # that has not loaded the definitions yet.
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
