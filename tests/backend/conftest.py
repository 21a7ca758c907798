"""The backend under test: the real application on a real socket, with a real PostgreSQL and RabbitMQ."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
import uvicorn
from httpx_sse import ServerSentEvent, aconnect_sse
from pydantic import SecretStr

from backend.decoders import Lane
from backend.errors import Refusal, ServiceError
from backend.main import build_app
from backend.services import Services
from backend.settings import Settings
from scripts.local.config import Config
from tests.conftest import eventually, read_events

PROBABILITIES = '[{"label": "cat", "probability": 0.75}, {"label": "dog", "probability": 0.25}]'
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Api:
    """A running backend: a client of it, and its objects."""

    client: httpx.AsyncClient
    services: Services

    async def upload(self, *images: bytes, **headers: str) -> httpx.Response:
        files = [("file", (f"{number}.jpg", image)) for number, image in enumerate(images)]
        return await self.client.post("/api/predict", files=files, headers=headers)

    async def follow(self, path: str, count: int, **headers: str) -> list[ServerSentEvent]:
        """The first `count` events of a stream; fewer if it ends before."""
        events: list[ServerSentEvent] = []
        async with asyncio.timeout(30), aconnect_sse(self.client, "GET", path, headers=headers) as stream:
            async for event in read_events(stream):
                events.append(event)
                if len(events) == count:
                    break
        return events


class Server(uvicorn.Server):
    """uvicorn's server without its pauses of 0.1 s, which took a third of the time of the tests."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            await asyncio.sleep(0.01)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        await self.lifespan.shutdown()


class Reader:
    """Collects the events of a stream."""

    def __init__(self, api: Api, url: str) -> None:
        self.events: list[ServerSentEvent] = []
        self.done = asyncio.create_task(self._read(api, url))

    async def until(self, count: int) -> None:
        async def enough() -> bool:
            return len(self.events) >= count

        await eventually(enough)

    async def _read(self, api: Api, url: str) -> None:
        async with asyncio.timeout(60), aconnect_sse(api.client, "GET", url) as stream:
            async for event in read_events(stream):
                self.events.append(event)


async def cut_listeners(database: asyncpg.Connection) -> None:
    """End the listening connections of all backends."""
    assert await database.fetch(
        """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
           WHERE application_name = 'backend listener'"""
    )


def assert_problem(answer: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["type"]) == (status, "about:blank")
    assert body["request_id"] == answer.headers["x-request-id"]
    assert all(word in body["title"] + " " + body["detail"] for word in words), body
    return body


def refuses(refusal: Refusal, match: str | None = None) -> pytest.RaisesExc[ServiceError]:
    """Expect that the block raises the error of a refusal."""
    return pytest.raises(ServiceError, match=match, check=lambda error: error.refusal is refusal)


async def insert(
    database: asyncpg.Connection, minute: int, label: str | None, confidence: float = 0.5
) -> str:
    """Insert a row that was accepted `minute` minutes after START; with a label, it has succeeded."""
    moment = START + timedelta(minutes=minute)
    random = uuid4().int & ((1 << 62) - 1)
    number = (int(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | random
    id = f"{number:032x}"
    await database.execute(
        """INSERT INTO predictions (id, filename, "timestamp", pixels)
           VALUES ($1::text::uuid, $2, $3, decode(repeat('7f', 3072), 'hex'))""",
        id,
        f"image_{minute}%.png",
        moment,
    )
    if label:
        await database.execute(
            """UPDATE predictions SET status = 'succeeded', prediction = $2, confidence = $3,
               probabilities = $4, model = 'm', completed_at = now() WHERE id = $1::text::uuid""",
            id,
            label,
            confidence,
            PROBABILITIES,
        )
    return id


def without(settings: Settings, *names: str) -> Settings:
    """Settings whose `database_url` or `broker_url` is an address without a server."""
    urls = {"database_url": "postgresql://x:x@127.0.0.1:1/x", "broker_url": "amqp://x:x@127.0.0.1:1/x"}
    return settings.model_copy(update={name: SecretStr(urls[name]) for name in names})


async def list_minutes(api: Api, **query: object) -> list[int]:
    """The rows that the history lists for this query, each as the `minute` that `insert` got."""
    answer = await api.client.get("/api/predictions", params=query)  # pyright: ignore[reportArgumentType]
    assert answer.status_code == 200, answer.text
    return [int(row["filename"][6:].split("%")[0]) for row in answer.json()["results"]]


Serve = Callable[[Settings], Awaitable[Api]]
Finish = Callable[[str], Awaitable[None]]


@pytest.fixture
def settings(servers: Config) -> Settings:
    return Settings.model_validate(
        {
            "database_url": servers.database_url("backend"),
            "broker_url": servers.broker_url("backend"),
            "max_upload_bytes": 100_000,
            "max_request_bytes": 400_000,
            "max_image_pixels": 1_000_000,
            "max_files": 5,
            "docker_url": "",
        }
    )


@pytest.fixture(autouse=True)
def decoders_start_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no decoder processes with a backend: three in each test took two thirds of the CPU time.

    `test_decoders.py` overrides this fixture, and so tests the start too.
    """

    async def start_none(_lane: Lane) -> None:
        pass

    monkeypatch.setattr(Lane, "start", start_none)


@pytest.fixture
async def serve(database: asyncpg.Connection) -> AsyncGenerator[Serve]:
    """Start backends with given settings. All stop at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(settings: Settings) -> Api:
            handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            app = build_app(settings)
            config = uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=3)
            server, listening = Server(config), config.bind_socket()
            running = asyncio.create_task(server._serve([listening]))  # `serve` would install signal handlers
            while not server.started:
                assert not running.done(), "the backend did not start"
                await asyncio.sleep(0.01)

            async def stop() -> None:
                app.state.services.events.close()
                server.should_exit = True
                await running
                for number, handler in handlers.items():  # the backend has added its own handlers
                    signal.signal(number, handler)

            stack.push_async_callback(stop)
            # Loading the certificates of authorities would take 20 ms of each test.
            client = httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=15, verify=False
            )
            await stack.enter_async_context(client)
            return Api(client, app.state.services)

        yield start


@pytest.fixture
async def api(serve: Serve, settings: Settings) -> Api:
    return await serve_connected(serve, settings)


async def serve_connected(serve: Serve, settings: Settings) -> Api:
    """Start a backend, and wait until it is connected to the broker and listens to the database."""
    api = await serve(settings)

    async def connected() -> bool:
        return api.services.broker.connected and api.services.events.listening

    await eventually(connected)
    return api


@pytest.fixture
def finish(database: asyncpg.Connection) -> Finish:
    """Act as the worker: claim one prediction and write its outcome."""

    async def play(id: str) -> None:
        await database.execute(
            "UPDATE predictions SET status = 'running', started_at = now(), attempt = 1 WHERE id = $1", id
        )
        await database.execute(
            """UPDATE predictions SET status = 'succeeded', prediction = 'cat', confidence = 0.75,
                   probabilities = $2, model = 'm', completed_at = now(), batch_size = 1, predict_ms = 2.5
               WHERE id = $1""",
            id,
            PROBABILITIES,
        )

    return play
