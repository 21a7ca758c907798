"""A real worker swaps models while predictions arrive at a steady rate."""

import asyncio
import itertools
import json
import os
import signal
import statistics
import subprocess
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from backend.broker import Broker
from backend.messages import INFERENCE, build_messages
from scripts.local.config import Config, find_free_ports
from tests.chaos import worker_process
from tests.conftest import SHIPPED_MODEL, activate, eventually, worker_locked_out

FIRST, SECOND = "2026-01-01-first", "2026-01-02-second"
IMAGES_A_SECOND = 60  # about a tenth of what the system classifies on two cores
PIXELS = [os.urandom(3072) for _ in range(16)]


def copy_shipped(models: Path, version: str, **card: Any) -> Path:
    """Copy the shipped model to another version. One rename makes its complete folder visible."""
    partial_folder = models / f".{version}"
    partial_folder.mkdir()
    whole = json.loads((SHIPPED_MODEL / "card.json").read_text()) | {"version": version} | card
    (partial_folder / "card.json").write_text(json.dumps(whole))
    for name in ("model.onnx", "model.int8.onnx", "check.npz"):
        (partial_folder / name).write_bytes((SHIPPED_MODEL / name).read_bytes())
    return partial_folder.rename(models / version)


@dataclass
class Worker:
    """A real worker with its own folder of models."""

    process: subprocess.Popen[bytes]
    models: Path
    log: Path
    metrics: str

    def lines(self, text: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if text in line]


@contextmanager
def run_worker(servers: Config, folder: Path) -> Generator[Worker]:
    models, log = folder / "models", folder / "worker.log"
    models.mkdir(exist_ok=True)
    (port,) = find_free_ports(1)
    log.unlink(missing_ok=True)  # an earlier worker may have written it
    settings = {"MODELS_PATH": str(models), "METRICS_ADDRESS": f"127.0.0.1:{port}"}
    with worker_process.run(servers, "inference.main", log, **settings) as process:
        yield Worker(process, models, log, f"http://127.0.0.1:{port}/metrics")
        process.terminate()
        assert process.wait(20) in (0, -signal.SIGTERM)


@pytest.fixture
async def publish(
    servers: Config, database: asyncpg.Connection
) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Stores one image and publishes its message, as the backend does."""
    broker = Broker(servers.broker_url("backend"), lambda _event: None)
    await broker.open()

    async def connected() -> bool:
        return broker.connected

    await eventually(connected)
    pixels = itertools.cycle(PIXELS)
    # The connection `database` may be in use.
    connection = await asyncpg.connect(servers.database_url("backend"))

    async def publish() -> None:
        id = uuid.uuid4()
        await connection.execute(
            """INSERT INTO predictions (id, filename, "timestamp", pixels)
               VALUES ($1, 'x.png', clock_timestamp(), $2)""",
            id,
            next(pixels),
        )
        await broker.publish(build_messages(INFERENCE, [(id, None)]))

    yield publish
    await broker.close()
    await connection.close()


async def publish_steadily(publish: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Publish IMAGES_A_SECOND images each second, without waiting for their outcomes."""
    started = time.monotonic()
    for number in range(int(seconds * IMAGES_A_SECOND)):
        await asyncio.sleep(max(0.0, started + number / IMAGES_A_SECOND - time.monotonic()))
        await publish()


async def count(database: asyncpg.Connection, condition: str) -> int:
    return int(await database.fetchval(f"SELECT count(*) FROM predictions WHERE {condition}") or 0)


async def all_have_ended(database: asyncpg.Connection) -> bool:
    return await count(database, "completed_at IS NULL") == 0


async def is_served(database: asyncpg.Connection, version: str) -> bool:
    served = await database.fetchval(
        "SELECT served_at >= activated_at FROM models WHERE version = $1", version
    )
    return bool(served)


async def wait_until_served(database: asyncpg.Connection, version: str, seconds: float = 30) -> None:
    await eventually(partial(is_served, database, version), seconds)


async def read_latencies_ms(database: asyncpg.Connection) -> list[float]:
    rows = await database.fetch(
        """SELECT (extract(epoch FROM completed_at - "timestamp") * 1000)::double precision AS ms
           FROM predictions"""
    )
    return [row["ms"] for row in rows]


async def test_predictions_finish_while_versions_are_swapped(
    servers: Config, database: asyncpg.Connection, publish: Callable[[], Awaitable[None]], tmp_path: Path
) -> None:
    with run_worker(servers, tmp_path) as worker:
        copy_shipped(worker.models, FIRST)
        await wait_until_served(database, FIRST, 60)
        copy_shipped(worker.models, SECOND, activation="never")
        await publish_steadily(publish, 2)  # not measured: the first forward passes are slow
        await eventually(partial(all_have_ended, database), 60)
        await database.execute("TRUNCATE predictions")

        await publish_steadily(publish, 3)
        await eventually(partial(all_have_ended, database), 60)
        assert await count(database, f"status = 'succeeded' AND model = '{FIRST}'") == 3 * IMAGES_A_SECOND
        quiet = await read_latencies_ms(database)
        await database.execute("TRUNCATE predictions")

        swaps = 0
        flow = asyncio.create_task(publish_steadily(publish, 10))
        for version in itertools.cycle([SECOND, FIRST]):
            await activate(database, version)
            await wait_until_served(database, version)
            swaps += 1
            await asyncio.sleep(0.2)
            if flow.done():
                break
        await flow
        await eventually(partial(all_have_ended, database), 60)
        swapping = await read_latencies_ms(database)

        assert await count(database, "status = 'succeeded'") == 10 * IMAGES_A_SECOND
        assert await count(database, "attempt > 1") == 0
        models = await database.fetch("SELECT model, count(*) FROM predictions GROUP BY model")
        assert {row["model"] for row in models} == {FIRST, SECOND}
        # The rows of one transaction (xmin) are one whole batch, of `batch_size` rows and one model.
        batches = await database.fetch(
            """SELECT count(DISTINCT model) AS models, count(*) AS rows, max(batch_size) AS batch_size
               FROM predictions GROUP BY xmin::text"""
        )
        assert {(row["models"], row["rows"] - row["batch_size"]) for row in batches} == {(1, 0)}
        assert swaps > 2
        for name, latencies in (("without swaps", quiet), (f"with {swaps} swaps in 10 s", swapping)):
            cuts = statistics.quantiles(latencies, n=100)
            print(f"{name}: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, n {len(latencies)}")
        print(*worker.lines("model loaded")[-3:], sep="\n")
        assert max(swapping) < max(quiet) + 3000  # ms; a swap costs much less

        active = await database.fetchval("SELECT version FROM models ORDER BY activated_at DESC LIMIT 1")
        async with httpx.AsyncClient() as client:
            figures = (await client.get(worker.metrics)).text
        assert f'version="{active}"' in figures
        assert figures.count("inference_model_info{") == 1


async def test_a_worker_waits_for_a_model_and_predictions_stay_queued(
    servers: Config, database: asyncpg.Connection, publish: Callable[[], Awaitable[None]], tmp_path: Path
) -> None:
    async def has_logged_that_it_has_no_model() -> bool:
        return bool(worker.lines("holds no model that can be served"))

    with run_worker(servers, tmp_path) as worker:
        await publish()
        await eventually(has_logged_that_it_has_no_model, 60)
        worker.process.terminate()
        assert worker.process.wait(5) == -signal.SIGTERM  # a worker can stop without a model

    with run_worker(servers, tmp_path) as worker:
        (worker.models / FIRST).mkdir()
        await eventually(has_logged_that_it_has_no_model, 60)
        assert await count(database, "status = 'queued'") == 1
        copy_shipped(worker.models, SECOND)
        await eventually(partial(all_have_ended, database), 60)
        assert await count(database, f"status = 'succeeded' AND model = '{SECOND}'") == 1
        refused = await eventually(
            lambda: database.fetchval("SELECT error FROM models WHERE version = $1", FIRST)
        )
        assert "card.json cannot be read" in refused


async def test_a_damaged_version_is_refused_and_the_old_one_still_serves(
    servers: Config, database: asyncpg.Connection, publish: Callable[[], Awaitable[None]], tmp_path: Path
) -> None:
    with run_worker(servers, tmp_path) as worker:
        copy_shipped(worker.models, FIRST)
        await wait_until_served(database, FIRST, 60)
        folder = copy_shipped(worker.models, SECOND)

        async def registered() -> Any:
            return await database.fetchval("SELECT true FROM models WHERE version = $1", SECOND)

        await eventually(registered)
        with (folder / "model.onnx").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\1")
        flow = asyncio.create_task(publish_steadily(publish, 2))
        await activate(database, SECOND)
        refused = await eventually(
            lambda: database.fetchval("SELECT error FROM models WHERE version = $1", SECOND)
        )
        await flow
        await eventually(partial(all_have_ended, database), 60)
        assert "SHA-256 differs" in refused
        assert await count(database, f"status = 'succeeded' AND model = '{FIRST}'") == 2 * IMAGES_A_SECOND


async def test_a_worker_that_lost_the_database_swaps_when_the_database_is_back(
    servers: Config, database: asyncpg.Connection, publish: Callable[[], Awaitable[None]], tmp_path: Path
) -> None:
    with run_worker(servers, tmp_path) as worker:
        copy_shipped(worker.models, FIRST)
        copy_shipped(worker.models, SECOND, activation="never")
        await wait_until_served(database, FIRST, 60)

        async def has_logged_the_error() -> bool:
            return bool(worker.lines("the table of models cannot be read"))

        flow = asyncio.create_task(publish_steadily(publish, 6))
        await eventually(lambda: count(database, "status = 'succeeded'"))
        async with worker_locked_out(database):
            await activate(database, SECOND)
            await eventually(has_logged_the_error)
            assert not await is_served(database, SECOND)
        await wait_until_served(database, SECOND)
        await flow
        await publish()  # if the swap was slow, all others ran on FIRST; this one runs on SECOND
        await eventually(partial(all_have_ended, database), 60)
        assert await count(database, "status = 'succeeded'") == 6 * IMAGES_A_SECOND + 1
        models = await database.fetch("SELECT DISTINCT model FROM predictions")
        assert {row["model"] for row in models} == {FIRST, SECOND}
        assert worker.process.poll() is None
