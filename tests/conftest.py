"""The servers that tests start for themselves, in folders of their own."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
from PIL import Image

from scripts.local import stack
from scripts.local.config import PROGRAMS, REPOSITORY, Config, find_free_ports, port_is_free

SAMPLES = REPOSITORY / "ui/public/samples"
SHIPPED_MODEL = min((REPOSITORY / "models").glob("*/card.json")).parent  # what is trained here is newer


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Config]:
    """A private PostgreSQL with the schema, and a private RabbitMQ with the definitions."""
    for config in run_stack(tmp_path_factory.mktemp("servers"), ("epmd", "postgres", "rabbitmq")):
        stack.wait_until(lambda port=config.ports["amqp"]: not port_is_free(port), 60, "RabbitMQ")
        yield config


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Generator[Config]:
    """The whole system, healthy. What its trainings publish stays in a folder of its own."""
    state = tmp_path_factory.mktemp("system")
    shutil.copytree(REPOSITORY / "models", state / "models", ignore=shutil.ignore_patterns(".*"))
    for config in run_stack(state, PROGRAMS):
        stack.wait_until(
            lambda config=config: stack.fetch_health(config).get("status") == "ok", 120, "the system"
        )
        yield config


def run_stack(state: Path, programs: tuple[str, ...]) -> Generator[Config]:
    (port,) = find_free_ports(1)
    config = stack.start(state, port, programs)
    try:
        yield config
    finally:
        stack.stop(state)


@pytest.fixture
async def database(servers: Config) -> AsyncGenerator[asyncpg.Connection]:
    """A connection to the private database, its tables empty."""
    connection = await asyncpg.connect(servers.database_url("cifar"), command_timeout=30)
    await connection.execute("TRUNCATE predictions, trainings, epochs, models")
    yield connection
    await connection.close()


@pytest.fixture
def cat() -> bytes:
    return (SAMPLES / "cat.jpg").read_bytes()


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = 15) -> Any:
    """Wait until the awaitable that `condition()` makes gives something true; return that."""
    async with asyncio.timeout(seconds):
        while not (value := await condition()):
            await asyncio.sleep(0.02)
        return value


def write_two_colours(root: Path, train: int, test: int) -> None:
    """A data set that a network learns in seconds: two classes that differ in colour, under noise."""
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for channel, name in enumerate(("reddish", "greenish")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 200, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] |= 128
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
