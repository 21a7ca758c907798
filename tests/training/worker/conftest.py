"""A training worker whose child process is `fake_train.py`, and its database and broker."""

from collections.abc import AsyncGenerator, Generator
from contextlib import suppress

import aio_pika
import asyncpg
import pytest

from scripts.local.config import Config
from tests.training.worker.harness import OtherServices, Worker


@pytest.fixture(scope="module")
def worker(servers: Config, tmp_path_factory: pytest.TempPathFactory) -> Generator[Worker]:
    """One worker for all tests of a file."""
    worker = Worker(servers, tmp_path_factory.mktemp("training"))
    with worker.running() as process:
        yield worker
        assert process.poll() is None


@pytest.fixture
async def services(servers: Config) -> AsyncGenerator[OtherServices]:
    """Acts as the other services. The tables and the queue are empty."""
    database = await asyncpg.connect(servers.database_url("cifar"), command_timeout=30)
    broker = await aio_pika.connect(servers.broker_url("backend"), timeout=30)
    await database.execute("TRUNCATE trainings, epochs, models")
    async with await aio_pika.connect(servers.broker_url("training")) as reader:  # the backend may not purge
        await (await (await reader.channel()).get_queue("training", ensure=False)).purge()
    yield OtherServices(database, await broker.channel())
    await database.execute(
        "UPDATE trainings SET status = 'canceled', completed_at = now() WHERE completed_at IS NULL"
    )  # so that the worker ends its run
    with suppress(aio_pika.exceptions.AMQPError):  # a test may have killed the broker
        await broker.close()
    await database.close()
