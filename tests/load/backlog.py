"""`--backlog N`: N images in bulk. How fast they are finished, and how long single uploads take meanwhile."""

import asyncio
import time
from dataclasses import dataclass, replace

import asyncpg

from scripts.local.config import Config, SetupError
from tests.load import clients, photos
from tests.load.measure import build_uploads, percentile
from tests.load.systems import System

FILES = 256  # as many as a request may have
UPLOADERS = 4
SINGLE_CLIENTS = 4
POLL_SECONDS = 1
UNFINISHED = "SELECT count(*) FROM predictions WHERE status IN ('queued', 'running')"


@dataclass(frozen=True)
class Backlog:
    """A backlog, and the single uploads sent meanwhile."""

    predictions: int
    accepted_per_second: float
    finished_per_second: float
    """Measured from the first upload until the backlog is finished, which is checked every second."""
    single: int
    """Single uploads that were answered meanwhile."""
    single_p50_ms: float
    single_p95_ms: float
    """60,000 or more if over 5% of the uploads were not finished within a minute."""


async def measure_backlog(system: System, config: Config, count: int) -> Backlog:
    """Upload `count` images in bulk; then clients upload single images until the backlog is finished."""
    database = await asyncpg.connect(config.database_url("cifar"))
    # Here an answer with an unfinished prediction counts, too.
    single = replace(build_uploads(system, "32x32", 1), marker=b'"status":')
    started = time.perf_counter()
    await upload_in_bulk(system, count)
    accepted = time.perf_counter()
    async with clients.running(system.port, single, SINGLE_CLIENTS) as load:
        while not load.answers or await database.fetchval(UNFINISHED) > SINGLE_CLIENTS:
            await asyncio.sleep(POLL_SECONDS)
        finished = time.perf_counter()
    await database.close()
    latencies = sorted(answer.latency_ms for answer in load.answers)
    return Backlog(
        predictions=count,
        accepted_per_second=count / (accepted - started),
        finished_per_second=count / (finished - started),
        single=len(latencies),
        single_p50_ms=percentile(latencies, 50),
        single_p95_ms=percentile(latencies, 95),
    )


async def upload_in_bulk(system: System, count: int) -> None:
    """Raises SetupError, in an ExceptionGroup, if an upload is refused."""
    images = photos.read_images("32x32")
    left = iter(range(0, count, FILES))

    async def upload() -> None:
        async with clients.connected(system.port) as connection:
            for first in left:
                files = [images[n % len(images)] for n in range(min(FILES, count - first))]
                head, body = await clients.exchange(*connection, photos.build_request(files))
                if not head.startswith(b"http/1.1 202"):
                    raise SetupError(f"a bulk upload was refused: {body[:200]!r}")

    async with asyncio.TaskGroup() as group:
        for _ in range(UPLOADERS):
            group.create_task(upload())
