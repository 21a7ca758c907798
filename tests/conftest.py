"""Fixtures that start private servers, each in its own folder, and functions that several tests use."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from httpx_sse import EventSource, ServerSentEvent

from scripts.local import files, programs, stack
from scripts.local.config import REPOSITORY, Config, find_free_ports, port_is_free, prepare

SAMPLES = REPOSITORY / "ui/public/samples"


def find_shipped_model() -> Path:
    """The folder of the version that Git tracks. `models/` may also hold versions trained on this machine."""
    command = ["git", "ls-files", "models/*/card.json"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    (card,) = listed.splitlines()
    return (REPOSITORY / card).parent


SHIPPED_MODEL = find_shipped_model()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Config]:
    """A private PostgreSQL with the schema, and a private RabbitMQ with the definitions."""
    for config in run_stack(tmp_path_factory.mktemp("servers"), ("epmd", "postgres", "rabbitmq")):
        stack.wait_until(lambda port=config.ports["amqp"]: not port_is_free(port), 60, "RabbitMQ")
        yield config
        stop_all_and_kill_rabbitmq(config)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Generator[Config]:
    """The whole system, healthy. It has its own models folder."""
    state = tmp_path_factory.mktemp("system")
    shutil.copytree(SHIPPED_MODEL, state / "models" / SHIPPED_MODEL.name)
    for config in run_stack(state, programs.PROGRAMS):
        stack.wait_until(
            lambda config=config: stack.fetch_health(config).get("status") == "ok", 120, "the system"
        )
        yield config


def stop_all_and_kill_rabbitmq(config: Config) -> None:
    """Kill RabbitMQ, whose orderly end takes 8 seconds; supervisord stops everything else."""
    rabbitmq, supervisor = pid_of(config, "rabbitmq"), stack.find_supervisor(config.state)
    assert supervisor
    supervisor.terminate()
    os.kill(rabbitmq, signal.SIGKILL)


def run_stack(state: Path, names: Collection[str]) -> Generator[Config]:
    (port,) = find_free_ports(1)
    config = stack.start(state, port, names)
    try:
        yield config
    finally:
        stack.stop(state)


@contextmanager
def run_proxy(state: Path, **changes: str) -> Generator[Config]:
    """nginx alone; `changes` replace settings and template values."""
    (port,) = find_free_ports(1)
    config = prepare(state, port)
    for folder in ("log", "nginx", "run"):
        (state / folder).mkdir()
    changes = {"ACCESS_LOG": "/dev/stdout json", **changes}  # without a buffer, so that tests need not wait
    command = [
        programs.find_program("nginx"),
        "-c",
        str(files.write_nginx(config, **changes)),
        "-p",
        str(state),
    ]
    with (
        (state / "log/nginx.log").open("ab") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            stack.wait_until(lambda: not port_is_free(port), 10, "nginx")
            yield config
        finally:
            process.terminate()


@pytest.fixture
async def database(servers: Config) -> AsyncGenerator[asyncpg.Connection]:
    """A connection to the private database, whose tables are empty, except `events`."""
    connection = await asyncpg.connect(servers.database_url("cifar"), command_timeout=30)
    await connection.execute("TRUNCATE predictions, trainings, epochs, models")
    yield connection
    await connection.close()


@pytest.fixture
def cat() -> bytes:
    return (SAMPLES / "cat.jpg").read_bytes()


def pid_of(system: Config, name: str) -> int:
    """The process id of a program, which must be running."""
    (found,) = [process for process in stack.processes(system) if process["name"] == name]
    assert found["pid"], f"{name} is {found['statename']}: {found['description']}"
    return found["pid"]


async def activate(database: asyncpg.Connection, version: str) -> None:
    """Activate this model version. If it is active already, activate it again."""
    await database.execute("UPDATE models SET activated_at = clock_timestamp() WHERE version = $1", version)


@asynccontextmanager
async def worker_locked_out(database: asyncpg.Connection) -> AsyncGenerator[None]:
    """Lock the inference worker out of the database."""
    await database.execute("ALTER ROLE worker NOLOGIN")
    await database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'")
    try:
        yield
    finally:
        await database.execute("ALTER ROLE worker LOGIN")


async def ended(*processes: psutil.Process) -> bool:
    """Whether all these processes are gone, or wait only for their parents to read their exit status."""
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            pass
    return True


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = 30) -> Any:
    """Await `condition()` again and again until its result is true; returns the result."""
    async with asyncio.timeout(seconds):
        while not (value := await condition()):
            await asyncio.sleep(0.02)
        return value


async def read_events(stream: EventSource) -> AsyncGenerator[ServerSentEvent]:
    """The events of a stream. httpx-sse also makes events of keep-alive comments; these have no data."""
    async for event in stream.aiter_sse():
        if event.data:
            yield event
