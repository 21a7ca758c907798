"""The load generator: clients that upload over connections of their own, and note each answer.

It writes ready-made bytes and parses as little of an answer as it can, because it runs on the same cores as
the system that it measures.
"""

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field

from scripts.local.config import SetupError

BATCH_SIZE = re.compile(rb'"batch_size": ?(\d+)')


@dataclass(frozen=True)
class Uploads:
    """What clients send, in turn."""

    requests: Sequence[bytes]
    images: int
    """Images in each request."""
    marker: bytes
    """What a complete answer holds once for each image."""


@dataclass(frozen=True)
class Answer:
    """A request that was answered."""

    latency_ms: float
    batch_sizes: Sequence[int]
    """The size of the batch that each image was in."""


@dataclass
class Load:
    """Clients that run, and their answers so far."""

    port: int
    uploads: Uploads
    rate: float | None
    """Requests a second, all clients together. None: each client sends again at once after an answer."""
    answers: list[Answer] = field(default_factory=list[Answer])

    async def run(self, clients: int) -> None:
        """Send until canceled. Raises SetupError, in an ExceptionGroup, for an unexpected answer."""
        requests = itertools.cycle(self.uploads.requests)
        turns = self._turns()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._run_client(requests, turns))

    def _turns(self) -> Iterator[float | None]:
        """When each request is due, by `perf_counter`, because uvloop's clock counts whole milliseconds."""
        if self.rate is None:
            return itertools.repeat(None)
        start, pause = time.perf_counter(), 1 / self.rate
        return (start + number * pause for number in itertools.count())

    async def _run_client(self, requests: Iterator[bytes], turns: Iterator[float | None]) -> None:
        """A late request counts from the moment it was due, so that a slow server cannot hide its delays."""
        while True:
            async with connected(self.port) as connection:
                for due in turns:
                    if due is not None:
                        await asyncio.sleep(due - time.perf_counter())
                    started = due or time.perf_counter()
                    head, body = await exchange(*connection, next(requests))
                    if (
                        not head.startswith(b"http/1.1 2")
                        or body.count(self.uploads.marker) != self.uploads.images
                    ):
                        raise SetupError(f"unexpected answer: {head[:40]!r} {body[:200]!r}")
                    sizes = [int(size) for size in BATCH_SIZE.findall(body)]
                    self.answers.append(Answer((time.perf_counter() - started) * 1000, sizes))
                    if b"\nconnection: close" in head:
                        break


@contextlib.asynccontextmanager
async def running(
    port: int, uploads: Uploads, clients: int, rate: float | None = None
) -> AsyncGenerator[Load]:
    """Clients that upload until the block ends. A client's error ends the block with an ExceptionGroup."""
    load = Load(port, uploads, rate)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(load.run(clients))
        yield load
        task.cancel()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[bytes, bytes]:
    """Send one request; returns the answer's head in lower case, and its body."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, rest = head.partition(b"\ncontent-length:")
    return head, await reader.readexactly(int(rest.partition(b"\r")[0]))
