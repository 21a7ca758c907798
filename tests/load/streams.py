"""The option `--streams N` of `make bench`: N followers of /api/events.

Measures how late an outcome reaches them, and the CPU time that they cost.
"""

import asyncio
import re
import resource
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from tests.load import clients
from tests.load.measure import build_uploads, percentile
from tests.load.systems import System

# HTTP/1.0, because the chunks of an HTTP/1.1 body could begin in the middle of a line.
REQUEST = b"GET /api/events HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
COMPLETED = re.compile(rb'"completed_at": ?"([^"]+)"')
CLIENTS = 16
MOST_PREDICTIONS_PER_SECOND = 50
MOST_OUTCOMES_PER_SECOND = 10_000  # received by all followers together
SETTLE_SECONDS = 2


@dataclass(frozen=True)
class Streams:
    """What followers saw. A delay is from just before an outcome's commit to its arrival."""

    followers: int
    predictions_per_second: float
    delay_p50_ms: float
    delay_p95_ms: float
    outcomes: int
    """The most outcomes that one follower saw."""
    missed: int
    """`outcomes` minus the fewest outcomes that one follower saw."""
    alone_p50_ms: float
    """Latency of a prediction without followers."""
    p50_ms: float
    """Latency of a prediction with all followers."""
    backend_us: float
    """CPU time of the backend for each follower and outcome. The prediction itself is not included."""


class Follower(asyncio.Protocol):
    """Reads one event stream and notes how late each outcome is, in milliseconds."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.delays: list[float] = []
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self.opened.set()
        lines, _, self._rest = (self._rest + data).rpartition(b"\n")
        for moment in COMPLETED.findall(lines):
            self.delays.append((now - datetime.fromisoformat(moment.decode()).timestamp()) * 1000)


async def measure_streams(system: System, count: int, seconds: float) -> Streams:
    """Predictions at a steady rate, first without followers, then with `count` followers."""
    rate = min(MOST_PREDICTIONS_PER_SECOND, MOST_OUTCOMES_PER_SECOND / count)
    alone_p50, alone_cpu = await measure_predictions(system, rate, seconds)
    async with following(system.port, count) as followers:
        p50, backend_cpu = await measure_predictions(system, rate, seconds)
        await asyncio.sleep(SETTLE_SECONDS)
    delays = sorted(delay for follower in followers for delay in follower.delays)
    outcomes = [len(follower.delays) for follower in followers]
    return Streams(
        followers=count,
        predictions_per_second=rate,
        delay_p50_ms=percentile(delays, 50),
        delay_p95_ms=percentile(delays, 95),
        outcomes=max(outcomes),
        missed=max(outcomes) - min(outcomes),
        alone_p50_ms=alone_p50,
        p50_ms=p50,
        backend_us=(backend_cpu - alone_cpu) * 1e6 / len(delays),
    )


async def measure_predictions(system: System, rate: float, seconds: float) -> tuple[float, float]:
    """The median latency in milliseconds, and the CPU seconds of the backend."""
    before = system.read_cpu()
    async with clients.running(system.port, build_uploads(system, "32x32", 1), CLIENTS, rate) as load:
        await asyncio.sleep(seconds)
    used = system.read_cpu() - before
    return percentile(sorted(answer.latency_ms for answer in load.answers), 50), used.groups["backend"]


@asynccontextmanager
async def following(port: int, count: int) -> AsyncGenerator[list[Follower]]:
    """Followers whose streams are open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.get_running_loop()
    transports: list[asyncio.Transport] = []
    followers: list[Follower] = []
    try:
        for _ in range(count):
            transport, follower = await loop.create_connection(Follower, "127.0.0.1", port)
            transport.write(REQUEST)
            transports.append(transport)
            followers.append(follower)
        async with asyncio.timeout(60):
            for follower in followers:
                await follower.opened.wait()
        yield followers
    finally:
        for transport in transports:
            transport.close()
