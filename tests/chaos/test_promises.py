"""The whole system when a process is killed, stopped or suspended: what it promises still holds."""

import asyncio
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial
from typing import Any

import aio_pika
import asyncpg
import httpx
import psutil
import pytest
from httpx_sse import SSEError, aconnect_sse

from scripts.local import stack
from scripts.local.config import Config, port_is_free
from tests.chaos.conftest import IMAGES, upload
from tests.conftest import eventually, pid_of, read_events

PORT_OF = {"backend": "backend", "rabbitmq": "amqp"}
UNFINISHED = "SELECT count(*) FROM predictions WHERE completed_at IS NULL"
AMID_A_BATCH = """
    SELECT read > coalesce(written, '-infinity')
        AND read > (SELECT min("timestamp") FROM predictions WHERE completed_at IS NULL)
    FROM (SELECT max(query_start) FILTER (WHERE query LIKE '%id, pixels%') AS read,
                 max(query_start) FILTER (WHERE query LIKE '%AS outcome%') AS written
          FROM pg_stat_activity WHERE application_name = 'inference') AS worker
"""
"""Whether the worker has read unfinished rows since it last wrote outcomes."""


async def is_ok(system: Config) -> bool:
    return stack.fetch_health(system).get("status") == "ok"


async def connect(system: Config) -> asyncpg.Connection | None:
    """A connection to the database, or None while it is unreachable."""
    with suppress(OSError, asyncpg.PostgresError):
        return await asyncpg.connect(system.database_url("cifar"))
    return None


async def is_replaced(system: Config, name: str, pid: int) -> bool:
    """Whether supervisord runs the program `name` in another process than `pid`."""
    (found,) = [process for process in stack.processes(system) if process["name"] == name]
    return found["pid"] not in (0, pid)


async def is_free(port: int) -> bool:
    return port_is_free(port)


class Users:
    """Two users: one uploads again and again and keeps the accepted ids, one follows every prediction."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.accepted: list[str] = []
        self.ends: defaultdict[str, list[Any]] = defaultdict(list)
        """The terminal events of each prediction, in their order."""
        self._client = client
        self._last_event_id = ""
        self._stopped = False
        self._tasks = [asyncio.create_task(self._upload()), asyncio.create_task(self._follow())]

    async def stop_uploading(self) -> None:
        self._stopped = True
        await self._tasks[0]

    async def leave(self) -> None:
        """Stop both users."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _upload(self) -> None:
        files = [("file", (f"{number}.jpg", image)) for number, image in enumerate(IMAGES[:10])]
        while not self._stopped:
            try:
                answer = await self._client.post("/api/predict", files=files)
            except httpx.TransportError:
                continue  # no answer: the upload may be stored or not
            if answer.status_code == 202:
                self.accepted += [prediction["id"] for prediction in answer.json()["predictions"]]
            await asyncio.sleep(0.05)

    async def _follow(self) -> None:
        while True:
            headers = {"Last-Event-ID": self._last_event_id} if self._last_event_id else {}
            with suppress(httpx.HTTPError, SSEError):
                async with aconnect_sse(self._client, "GET", "/api/events", headers=headers) as stream:
                    async for event in read_events(stream):
                        self._last_event_id = event.id
                        prediction = json.loads(event.data)
                        if prediction.get("completed_at"):
                            self.ends[prediction["id"]].append(prediction)
            await asyncio.sleep(0.1)


@pytest.fixture
async def users(system: Config, client: httpx.AsyncClient) -> AsyncGenerator[Users]:
    await eventually(partial(is_ok, system), 60)
    users = Users(client)
    yield users
    await users.leave()


@pytest.mark.parametrize("victim", ["inference", "backend", "rabbitmq", "postgres"])
async def test_no_accepted_upload_is_lost_when_a_process_is_killed(
    victim: str, system: Config, users: Users
) -> None:
    database = await asyncpg.connect(system.database_url("cifar"))
    worker = psutil.Process(pid_of(system, "inference"))

    async def suspend_amid_a_batch() -> bool:
        worker.suspend()
        if await database.fetchval(AMID_A_BATCH):
            return True
        worker.resume()
        return False

    async def many_are_accepted() -> bool:
        return len(users.accepted) > 50

    try:
        await eventually(suspend_amid_a_batch, 30)
        await eventually(many_are_accepted)
        await database.close()
        pid = pid_of(system, victim)
        os.kill(pid, signal.SIGKILL)
        if port := system.ports.get(PORT_OF.get(victim, "")):
            await eventually(partial(is_free, port), 10)  # no child of the killed process still listens
    finally:
        with suppress(psutil.NoSuchProcess):
            worker.resume()
    await eventually(partial(is_replaced, system, victim, pid), 30)
    database = await eventually(partial(connect, system))
    await eventually(partial(is_ok, system), 60)
    await users.stop_uploading()

    async def all_finished() -> bool:
        return await database.fetchval(UNFINISHED) == 0

    await eventually(all_finished, 60)  # the 60 s begin once the system is healthy again

    async def all_have_events() -> bool:
        return set(users.accepted) <= users.ends.keys()

    await eventually(all_have_events)
    rows = await database.fetch("SELECT * FROM predictions WHERE id = ANY($1::uuid[])", users.accepted)
    assert len(rows) == len(set(users.accepted))
    assert {row["status"] for row in rows} == {"succeeded"}
    assert max(row["attempt"] for row in rows) <= 3
    if victim == "inference":  # its messages were redelivered, so their predictions ran one by one
        again = {row["batch_size"] for row in rows if row["attempt"] > 1}
        assert again == {1}
    assert {len(users.ends[id]) for id in users.accepted} == {1}  # a resumed stream repeats no event
    await database.close()


@pytest.mark.parametrize(("victim", "part"), [("postgres", "database"), ("rabbitmq", "broker")])
async def test_health_answers_within_a_second_while_a_server_hangs_and_is_ok_afterwards(
    victim: str, part: str, system: Config, client: httpx.AsyncClient
) -> None:
    async def reported() -> str:
        started = time.monotonic()
        health = (await client.get("/api/health")).json()
        assert time.monotonic() - started < 1
        return health["components"][part]["status"]

    async def is_down() -> bool:
        return await reported() == "down"

    await eventually(partial(is_ok, system), 30)
    processes = [psutil.Process(pid_of(system, victim))]
    processes += processes[0].children(recursive=True)
    try:
        for process in processes:
            process.suspend()
        await eventually(is_down)
        for _ in range(3):
            assert await reported() == "down"
    finally:
        for process in processes:
            process.resume()
    await eventually(partial(is_ok, system), 30)


async def test_a_stopped_worker_finishes_its_batches_and_sends_an_offline_event(
    system: Config, client: httpx.AsyncClient
) -> None:
    broker = await aio_pika.connect(system.broker_url("flower"))
    database = await asyncpg.connect(system.database_url("cifar"))
    async with broker:
        events = await (await broker.channel()).declare_queue("celeryev.test", exclusive=True)
        await events.bind("celeryev", "worker.offline")
        flow = asyncio.create_task(upload(client))
        await eventually(lambda: database.fetchval(AMID_A_BATCH))
        os.kill(pid_of(system, "inference"), signal.SIGTERM)  # supervisord then starts another process

        async def offline_event() -> Any:
            return await events.get(fail=False)

        assert b'"inference@localhost"' in (await eventually(offline_event, 30)).body
    accepted = [prediction["id"] for prediction in await flow]

    async def all_finished() -> bool:
        return await database.fetchval(UNFINISHED) == 0

    await eventually(all_finished, 60)
    rows = await database.fetch("SELECT * FROM predictions WHERE id = ANY($1::uuid[])", accepted)
    assert {row["status"] for row in rows} == {"succeeded"}
    # The stopped worker finished its batches. It returned its other messages, so their predictions ran one
    # by one.
    assert {row["attempt"] for row in rows} <= {1, 2}
    assert any(row["attempt"] == 1 for row in rows)
    assert {row["batch_size"] for row in rows if row["attempt"] == 2} <= {1}
    await database.close()


async def test_a_stopped_backend_ends_its_streams(system: Config, client: httpx.AsyncClient) -> None:
    await eventually(partial(is_ok, system), 60)
    pid = pid_of(system, "backend")
    async with client.stream("GET", "/api/events") as stream:
        os.kill(pid, signal.SIGTERM)  # supervisord then starts another process
        async with asyncio.timeout(5):
            async for _ in stream.aiter_raw():  # raises if the stream is cut off
                pass
    await eventually(partial(is_replaced, system, "backend", pid), 30)
    await eventually(partial(is_ok, system), 60)
