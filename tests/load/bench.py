"""`make bench`: a closed loop through the proxy, against a system of its own.

Each client sends one image with `Prefer: wait`, takes the answer, sends the next. Printed for each
number of clients: images/s, latency, and CPU-milliseconds per prediction of each process group (the
load generator is not counted). The reference, measured in the same run, is the model alone: the same
images in batches of 64 on one thread, with nothing around it. Machines are noisy; compare ratios.
"""

import argparse
import asyncio
import contextlib
import itertools
import platform
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from tqdm import tqdm

from images.decode import decode
from inference.classifier import Loader
from scripts.local import stack
from scripts.local.config import PROGRAMS, REPOSITORY, Config, SetupError, find_free_ports
from tests.conftest import SHIPPED_MODEL

STATE = REPOSITORY / ".local/bench"
GROUPS = {
    "proxy": ("nginx",),
    "backend": ("backend",),
    "database": ("postgres",),
    "broker": ("rabbitmq", "epmd"),
    "worker": ("inference",),
    "flower": ("flower",),
}
REFERENCE_BATCH = 64


@dataclass(frozen=True)
class Round:
    """What one closed loop gave."""

    clients: int
    predictions: int
    seconds: float
    latencies_ms: Sequence[float]
    cpu_ms: Mapping[str, float]
    """Per prediction, for each process group."""
    batch_size: float

    @property
    def images_per_second(self) -> float:
        return self.predictions / self.seconds

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.latencies_ms, n=100)[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--predictions", type=int, default=2000, help="at 64 clients; a fifth of it at 1")
    predictions = parser.parse_args().predictions
    images = [file.read_bytes() for file in sorted((REPOSITORY / "ui/public/samples").glob("*.jpg"))]
    reference_ms = measure_forward(images)
    (port,) = find_free_ports(1)
    stack.stop(STATE)
    shutil.rmtree(STATE, ignore_errors=True)  # a table of old rows would be another measurement
    config = stack.start(STATE, port, PROGRAMS)
    try:
        stack.wait_until(lambda: stack.fetch_health(config).get("status") == "ok", 120, "the system")
        rounds = [
            asyncio.run(measure(config, images, clients, count))
            for clients, count in ((1, predictions // 5), (64, predictions))
        ]
    finally:
        stack.stop(STATE)
    report(rounds, reference_ms)


def measure_forward(images: Sequence[bytes], repeats: int = 15) -> float:
    """CPU-milliseconds an image of the model alone, in batches of 64 on one thread."""
    classifier = Loader(cpu_threads=1, max_batch_size=REFERENCE_BATCH).load(SHIPPED_MODEL)
    pixels = [decode(image, max_pixels=10**6) for image in images]
    batch = list(itertools.islice(itertools.cycle(pixels), REFERENCE_BATCH))
    classifier(batch)  # the first pass chooses its kernels
    started = time.process_time()
    for _ in range(repeats):
        classifier(batch)
    return (time.process_time() - started) * 1000 / (repeats * REFERENCE_BATCH)


async def measure(config: Config, images: Sequence[bytes], clients: int, count: int) -> Round:
    """Warm up with a tenth, then run `count` predictions over `clients` connections."""
    requests = [build_request(image, number) for number, image in enumerate(images)]
    await run_clients(config, requests, clients, max(2 * clients, count // 10), "warming up")
    pids = {process["name"]: process["pid"] for process in stack.processes(config)}
    before = cpu_seconds(pids)
    started = time.perf_counter()
    answers = await run_clients(config, requests, clients, count, f"{clients} clients")
    seconds = time.perf_counter() - started
    after = cpu_seconds(pids)
    cpu_ms = {group: (after[group] - before[group]) * 1000 / count for group in GROUPS}
    sizes = await read_batch_sizes(config, count)
    return Round(clients, count, seconds, answers, cpu_ms, statistics.mean(sizes))


async def run_clients(
    config: Config, requests: Sequence[bytes], clients: int, count: int, title: str
) -> list[float]:
    """Latencies in milliseconds. Raises SetupError when an answer is not a finished prediction."""
    turns = iter(range(count))
    latencies: list[float] = []
    with tqdm(total=count, desc=title, unit="image") as progress:

        async def run_client() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", config.http_port)
            for turn in turns:
                started = time.perf_counter()
                writer.write(requests[turn % len(requests)])
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(content_length(head))
                latencies.append((time.perf_counter() - started) * 1000)
                if not head.startswith(b"HTTP/1.1 200") or b'"status":"succeeded"' not in body:
                    raise SetupError(f"unexpected answer: {head[:40]!r} {body[:200]!r}")
                progress.update()
            writer.close()
            await writer.wait_closed()

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(run_client())
    return latencies


def build_request(image: bytes, number: int) -> bytes:
    boundary = "bench-boundary"
    disposition = f'Content-Disposition: form-data; name="file"; filename="{number}.jpg"'
    body = f"--{boundary}\r\n{disposition}\r\n\r\n".encode() + image + f"\r\n--{boundary}--\r\n".encode()
    head = (
        "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=30\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def content_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))


async def read_batch_sizes(config: Config, count: int) -> list[int]:
    """Batch sizes of the newest predictions, from the history."""
    sizes: list[int] = []
    cursor: str | None = None
    async with httpx.AsyncClient(base_url=config.address, timeout=30) as client:
        while len(sizes) < count:
            query = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
            page: dict[str, Any] = (await client.get("/api/predictions", params=query)).json()
            sizes += [row["metrics"]["batch_size"] for row in page["results"]]
            cursor = page["next"]
    return sizes[:count]


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU time so far of each process group: its processes, and those of theirs that have ended."""
    return {
        group: sum(tree_seconds(psutil.Process(pids[name])) for name in names)
        for group, names in GROUPS.items()
    }


def tree_seconds(root: psutil.Process) -> float:
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def report(rounds: Sequence[Round], reference_ms: float) -> None:
    cores = psutil.cpu_count(logical=True)
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {cores} cores")
    print(f"model alone, batches of {REFERENCE_BATCH}, one thread: {reference_ms:.2f} CPU-ms an image\n")
    heads = ["clients", "n", "images/s", "p50 ms", "p99 ms", "batch", *GROUPS, "all", "- model"]
    print("  ".join(f"{head:>8}" for head in heads))
    for result in rounds:
        total = sum(result.cpu_ms.values())
        figures = [
            f"{result.clients}",
            f"{result.predictions}",
            f"{result.images_per_second:.0f}",
            f"{result.percentile(50):.1f}",
            f"{result.percentile(99):.1f}",
            f"{result.batch_size:.1f}",
            *(f"{result.cpu_ms[group]:.2f}" for group in GROUPS),
            f"{total:.2f}",
            f"{total - reference_ms:.2f}",
        ]
        print("  ".join(f"{figure:>8}" for figure in figures))
    total = sum(rounds[-1].cpu_ms.values())
    print("\nCPU-milliseconds a prediction, from the proxy on; the last column is without the model.")
    print(
        f"At {rounds[-1].clients} clients everything costs {total / reference_ms:.2f} times the model alone."
    )


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
