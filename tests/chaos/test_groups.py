"""Messages of many predictions in a real worker, with a device that can be slow or kill the process."""

import asyncio
import json
import subprocess
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import pytest

from scripts.local.config import Config
from tests.chaos import worker_process
from tests.chaos.device import KILLS, RAISES
from tests.conftest import away, eventually

FINE = bytes(3072)
INTERACTIVE, BULK = "inference", "inference.bulk"
BATCH = 64


class Backend:
    """Stores images and publishes their messages."""

    def __init__(self, database: asyncpg.Connection, channel: aio_pika.abc.AbstractChannel) -> None:
        self.database = database
        self.channel = channel

    async def store(self, *images: bytes) -> list[str]:
        ids = [str(uuid.uuid4()) for _ in images]
        await self.database.executemany(
            """INSERT INTO predictions (id, filename, "timestamp", pixels)
               VALUES ($1, 'x.png', clock_timestamp(), $2)""",
            list(zip(ids, images, strict=True)),
        )
        return ids

    async def publish(self, ids: Sequence[str], queue: str = INTERACTIVE) -> None:
        """Publish one message with all ids."""
        exchange = await self.channel.get_exchange("inference", ensure=False)
        headers: dict[str, Any] = {
            "task": "inference.classify",
            "id": ids[0],
            "request_ids": [None] * len(ids),
        }
        body = json.dumps([[ids], {}, {}]).encode()
        message = aio_pika.Message(
            body, headers=headers, content_type="application/json", content_encoding="utf-8", delivery_mode=2
        )
        await exchange.publish(message, queue)

    async def upload(self, *images: bytes, queue: str = INTERACTIVE) -> list[str]:
        ids = await self.store(*images)
        await self.publish(ids, queue)
        return ids

    async def waiting_messages(self) -> int:
        """The messages that no worker holds."""
        queues = [await self.channel.declare_queue(name, passive=True) for name in (INTERACTIVE, BULK)]
        return sum(queue.declaration_result.message_count or 0 for queue in queues)

    async def count(self, condition: str) -> int:
        return int(await self.database.fetchval(f"SELECT count(*) FROM predictions WHERE {condition}") or 0)

    async def all_finished(self) -> bool:
        return await self.count("completed_at IS NULL") == 0

    async def rows(self) -> dict[str, asyncpg.Record]:
        rows = await self.database.fetch("SELECT * FROM predictions")
        return {str(row["id"]): row for row in rows}


@pytest.fixture
async def backend(servers: Config, database: asyncpg.Connection) -> AsyncGenerator[Backend]:
    async with await aio_pika.connect(servers.broker_url("backend")) as broker:
        channel = await broker.channel()
        yield Backend(database, channel)
    async with await aio_pika.connect(servers.broker_url("worker")) as broker:  # the backend may not purge
        channel = await broker.channel()
        for name in (INTERACTIVE, BULK):
            await (await channel.get_queue(name, ensure=False)).purge()


def run_worker(
    servers: Config, log: Path, seconds: float = 0.02
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker whose device takes `seconds` for a batch."""
    return worker_process.run(servers, "tests.chaos.fake_worker", log, DEVICE_SECONDS=str(seconds))


async def stop(process: subprocess.Popen[bytes]) -> None:
    """Shut the worker down. It must exit with 0."""
    process.terminate()
    assert await asyncio.to_thread(process.wait, 20) == 0


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


async def test_each_prediction_of_a_group_has_its_own_outcome(
    servers: Config, backend: Backend, log: Path
) -> None:
    images = [FINE] * BATCH
    images[10] = RAISES
    ids = await backend.upload(*images, queue=BULK)
    with run_worker(servers, log) as worker:
        await eventually(backend.all_finished, 60)
        rows = await backend.rows()
        assert rows[ids[10]]["error_title"] == "Classification failed"
        others = {(rows[id]["prediction"], rows[id]["attempt"]) for id in ids if id != ids[10]}
        assert others == {("cat", 1)}
        await stop(worker)
    assert await backend.waiting_messages() == 0


async def test_an_image_that_kills_the_worker_fails_alone_after_three_attempts(
    servers: Config, backend: Backend, log: Path
) -> None:
    images = [FINE] * BATCH
    images[20] = KILLS
    ids = await backend.upload(*images, queue=BULK)
    (bystander,) = await backend.upload(FINE)
    ends = 0
    while not await backend.all_finished():
        with run_worker(servers, log) as worker:

            async def is_over(worker: subprocess.Popen[bytes] = worker) -> bool:
                return worker.poll() is not None or await backend.all_finished()

            await eventually(is_over, 60)
            if worker.poll() is not None:
                ends += 1
            else:
                await stop(worker)
    rows = await backend.rows()
    assert ends == 3
    poison = rows.pop(ids[20])
    assert (poison["status"], poison["attempt"]) == ("failed", 3)
    assert poison["error_title"] == "Failed after 3 attempts"
    assert {row["status"] for row in rows.values()} == {"succeeded"}
    assert {row["attempt"] for row in rows.values()} <= {1, 2}
    assert {rows[id]["batch_size"] for id in ids if id != ids[20]} == {1}
    assert rows[bystander]["status"] == "succeeded"
    assert await backend.waiting_messages() == 0


async def test_one_prediction_of_a_group_is_canceled_while_it_runs(
    servers: Config, backend: Backend, log: Path
) -> None:
    ids = await backend.upload(*[FINE] * 3)
    with run_worker(servers, log, seconds=1):

        async def is_read() -> Any:
            return await backend.database.fetchval(
                """SELECT true FROM pg_stat_activity
                   WHERE application_name = 'inference' AND state = 'idle' AND query LIKE '%id, pixels, 0%'"""
            )

        await eventually(is_read, 60)
        await backend.database.execute(
            "UPDATE predictions SET status = 'canceled', completed_at = now() WHERE id = $1", ids[1]
        )
        await eventually(backend.all_finished)
    rows = await backend.rows()
    assert [rows[id]["status"] for id in ids] == ["succeeded", "canceled", "succeeded"]


async def test_a_message_that_was_published_three_times_writes_once(
    servers: Config, backend: Backend, log: Path
) -> None:
    ids = await backend.store(*[FINE] * BATCH)
    with run_worker(servers, log) as first, run_worker(servers, log) as second:

        async def are_ready() -> bool:
            return log.read_text().count("worker ready") == 2  # noqa: ASYNC240

        await eventually(are_ready, 60)
        for _ in range(3):
            await backend.publish(ids, BULK)
        await eventually(backend.all_finished, 60)
        await stop(first)
        await stop(second)
    assert await backend.waiting_messages() == 0
    assert {row["attempt"] for row in (await backend.rows()).values()} == {1}
    changes = await backend.database.fetch(
        """SELECT count(*) FROM events JOIN predictions ON prediction_id = id GROUP BY id"""
    )
    assert {row["count"] for row in changes} == {2}  # it was stored, and it succeeded


async def test_a_message_larger_than_a_batch_is_run_in_several(
    servers: Config, backend: Backend, log: Path
) -> None:
    await backend.upload(*[FINE] * 1000, queue=BULK)
    with run_worker(servers, log) as worker:
        await eventually(backend.all_finished, 60)
        await stop(worker)
    rows = await backend.rows()
    assert {row["batch_size"] for row in rows.values()} == {BATCH, 1000 % BATCH}
    assert await backend.waiting_messages() == 0


async def test_a_lone_upload_does_not_wait_for_a_backlog_of_bulk(
    servers: Config, backend: Backend, log: Path
) -> None:
    for _ in range(40):
        await backend.upload(*[FINE] * BATCH, queue=BULK)
    with run_worker(servers, log, seconds=0.1):

        async def has_begun() -> bool:
            return await backend.count("completed_at IS NOT NULL") > 0

        await eventually(has_begun, 60)
        (lone,) = await backend.upload(FINE)
        await eventually(backend.all_finished, 60)
        rows = await backend.rows()
        later = [row for row in rows.values() if row["completed_at"] > rows[lone]["completed_at"]]
        assert len(later) > 20 * BATCH


async def test_a_lone_upload_does_not_wait_for_all_redelivered_predictions(
    servers: Config, backend: Backend, log: Path
) -> None:
    for _ in range(8):
        await backend.upload(*[FINE] * BATCH, queue=BULK)

    async def has_begun() -> bool:
        return await backend.count("completed_at IS NOT NULL") > 0

    with run_worker(servers, log, seconds=0.2):
        await eventually(has_begun, 60)

    async def redelivered_ones_run() -> bool:
        return await backend.count("completed_at IS NOT NULL AND attempt = 2") > 0

    with run_worker(servers, log, seconds=0.01):
        await eventually(redelivered_ones_run, 60)
        (lone,) = await backend.upload(FINE)
        await eventually(backend.all_finished, 60)
    rows = await backend.rows()
    assert rows[lone]["attempt"] == 1
    later = [row for row in rows.values() if row["completed_at"] > rows[lone]["completed_at"]]
    assert {(row["attempt"], row["batch_size"]) for row in later} == {(2, 1)}
    assert len(later) > BATCH


async def test_bulk_does_not_starve_behind_lone_uploads(servers: Config, backend: Backend, log: Path) -> None:
    bulk = await backend.upload(*[FINE] * BATCH, queue=BULK)
    lone = await backend.store(*[FINE] * 20 * BATCH)
    await asyncio.gather(*[backend.publish([id]) for id in lone])
    with run_worker(servers, log, seconds=0.1):
        await eventually(backend.all_finished, 60)
        rows = await backend.rows()
        last = max(rows[id]["completed_at"] for id in bulk)
        assert sum(rows[id]["completed_at"] > last for id in lone) > 5 * BATCH


async def test_a_stopped_worker_finishes_the_batch_of_each_stage_and_returns_the_rest(
    servers: Config, backend: Backend, log: Path
) -> None:
    count = 30
    for _ in range(count):
        await backend.upload(*[FINE] * BATCH, queue=BULK)
    with run_worker(servers, log, seconds=0.1) as worker:

        async def is_at_work() -> bool:
            return await backend.count("completed_at IS NOT NULL") > 3 * BATCH

        await eventually(is_at_work, 60)
        await stop(worker)
    rows = await backend.rows()
    done = [row for row in rows.values() if row["status"] == "succeeded"]
    assert {(row["attempt"], row["batch_size"]) for row in done} == {(1, BATCH)}
    assert {(row["status"], row["attempt"]) for row in rows.values()} == {("succeeded", 1), ("queued", 0)}
    left = count - len(done) // BATCH
    assert left > 0
    assert len(done) % BATCH == 0

    async def are_back() -> bool:
        return await backend.waiting_messages() == left

    await eventually(are_back)
    with run_worker(servers, log, seconds=0) as worker:
        await eventually(backend.all_finished, 60)
        await stop(worker)
    assert await backend.waiting_messages() == 0
    assert {row["status"] for row in (await backend.rows()).values()} == {"succeeded"}


async def test_a_full_pipeline_waits_for_the_database(servers: Config, backend: Backend, log: Path) -> None:
    for _ in range(20):
        await backend.upload(*[FINE] * BATCH, queue=BULK)
    with run_worker(servers, log) as worker:

        async def has_begun() -> bool:
            return await backend.count("completed_at IS NOT NULL") > 0

        async def has_logged_it() -> bool:
            return "the database is unreachable" in log.read_text()  # noqa: ASYNC240

        await eventually(has_begun, 60)
        async with away(backend.database):
            await eventually(has_logged_it)
            assert worker.poll() is None
        await eventually(backend.all_finished, 60)
        await stop(worker)
    assert {(row["status"], row["attempt"]) for row in (await backend.rows()).values()} == {("succeeded", 1)}
    assert await backend.waiting_messages() == 0


async def test_a_worker_that_stops_without_the_database_returns_its_messages(
    servers: Config, backend: Backend, log: Path
) -> None:
    count = 20
    for _ in range(count):
        await backend.upload(*[FINE] * BATCH, queue=BULK)
    with run_worker(servers, log) as worker:

        async def has_begun() -> bool:
            return await backend.count("completed_at IS NOT NULL") > 0

        await eventually(has_begun, 60)
        async with away(backend.database):
            await stop(worker)
    left = await backend.count("completed_at IS NULL")
    assert left > 0

    async def are_back() -> bool:
        return await backend.waiting_messages() >= left // BATCH

    await eventually(are_back)
    with run_worker(servers, log, seconds=0):
        await eventually(backend.all_finished, 60)
    rows = (await backend.rows()).values()
    assert {row["status"] for row in rows} == {"succeeded"}
    assert max(row["attempt"] for row in rows) <= 3
