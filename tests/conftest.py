"""The servers that tests start for themselves, in folders of their own."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from scripts.local import stack
from scripts.local.config import PROGRAMS, REPOSITORY, Config, find_free_ports, port_is_free

SAMPLES = REPOSITORY / "ui/public/samples"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Config]:
    """A private PostgreSQL with the schema, and a private RabbitMQ with the definitions."""
    for config in run_stack(tmp_path_factory.mktemp("servers"), ("epmd", "postgres", "rabbitmq")):
        stack.wait_until(lambda port=config.ports["amqp"]: not port_is_free(port), 60, "RabbitMQ")
        yield config


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Generator[Config]:
    """The whole system, healthy."""
    for config in run_stack(tmp_path_factory.mktemp("system"), PROGRAMS):
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
    connection = await asyncpg.connect(servers.database_url("cifar"))
    await connection.execute("TRUNCATE predictions")
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
