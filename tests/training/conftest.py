"""Small data that a network can learn in seconds, and a training worker with a child of the tests' own."""

from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from pathlib import Path

import aio_pika
import asyncpg
import pytest
import torch

from scripts.local.config import Config
from tests.conftest import write_two_colours
from tests.training.harness import Trainings, Worker

# Threads that wait for each other make small networks slow on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def two_colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder tree of two classes: 100 and 20 images each."""
    root = tmp_path_factory.mktemp("two colours")
    write_two_colours(root, train=100, test=20)
    return root


@pytest.fixture(scope="module")
def worker(servers: Config, tmp_path_factory: pytest.TempPathFactory) -> Generator[Worker]:
    """One worker for a file of tests that leave it as they found it."""
    worker = Worker(servers, tmp_path_factory.mktemp("training"))
    with worker.running() as process:
        yield worker
        assert process.poll() is None


@pytest.fixture
async def trainings(servers: Config) -> AsyncGenerator[Trainings]:
    database = await asyncpg.connect(servers.database_url("cifar"), command_timeout=30)
    broker = await aio_pika.connect(servers.broker_url("backend"), timeout=30)
    await database.execute("TRUNCATE trainings, epochs, models")
    channel = await broker.channel()
    await (await channel.get_queue("training", ensure=False)).purge()
    yield Trainings(database, channel)
    await database.execute(
        "UPDATE trainings SET status = 'canceled', completed_at = now() WHERE completed_at IS NULL"
    )  # a worker that stands ends what it still runs
    with suppress(aio_pika.exceptions.AMQPError):  # a test may have killed the broker
        await broker.close()
    await database.close()
