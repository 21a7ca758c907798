"""Measure one system under one load: latency, throughput, CPU time of each part of the system."""

import asyncio
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.load import clients, photos
from tests.load.systems import System


@dataclass(frozen=True)
class Case:
    """A load: the number of clients, the size of their images, and the files in each request."""

    size: str
    files: int
    clients: int


@dataclass(frozen=True)
class Measurement:
    """What one system did under one load. Times in milliseconds."""

    system: str
    images: int
    images_per_second: float
    p50_ms: float
    p99_ms: float
    """Percentiles of the latency of requests."""
    batch_size: float
    """Mean over the images."""
    cpu_ms: Mapping[str, float]
    """CPU time for each image, by part of the system."""
    other_cores: float
    """CPU time of all else on the machine, in cores: the load generator and other work."""

    @property
    def all_cpu_ms(self) -> float:
        return sum(self.cpu_ms.values())


async def measure(system: System, case: Case, seconds: float) -> Measurement:
    """Warm up for a quarter of `seconds`, then measure for `seconds` while the clients go on.

    If answers are slow, the warm-up lasts until there are as many answers as clients, and the measurement
    until there are twice as many.
    """
    uploads = build_uploads(system, case.size, case.files)
    async with clients.running(system.port, uploads, case.clients) as load:
        await asyncio.sleep(seconds / 4)
        while len(load.answers) < case.clients:
            await asyncio.sleep(0.05)
        load.answers.clear()
        before, started = system.read_cpu(), time.perf_counter()
        await asyncio.sleep(seconds)
        while len(load.answers) < 2 * case.clients:
            await asyncio.sleep(0.05)
        answers, seconds = list(load.answers), time.perf_counter() - started
        used = system.read_cpu() - before
    images = len(answers) * case.files
    batch_sizes = [size for answer in answers for size in answer.batch_sizes]
    latencies = sorted(answer.latency_ms for answer in answers)
    return Measurement(
        system=system.name,
        images=images,
        images_per_second=images / seconds,
        p50_ms=percentile(latencies, 50),
        p99_ms=percentile(latencies, 99),
        batch_size=statistics.mean(batch_sizes),
        cpu_ms={group: spent * 1000 / images for group, spent in used.groups.items()},
        other_cores=(used.machine - used.serving) / seconds,
    )


def build_uploads(system: System, size: str, files: int) -> clients.Uploads:
    """Requests that differ in their images."""
    images = photos.read_images(size)
    requests = [
        photos.build_request([images[(first + n) % len(images)] for n in range(files)], system.headers)
        for first in range(len(images))
    ]
    return clients.Uploads(requests, files, system.marker)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that is at least as large as `percent` percent of the ordered values."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
