"""Decoder processes, which limit the time and memory that a file can take."""

import asyncio
import contextlib
import json
import logging
import math
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from pathlib import Path

from backend import logs
from backend.errors import Refusal, ServiceError
from images import errors
from images.errors import ImageError, TooManyPixels

logger = logging.getLogger(__name__)

ORDINARY_PIXELS, ORDINARY_SECONDS = 16_000_000, 1  # seconds of CPU time; ordinary files took 0.5 s at most
ORDINARY_PROCESSES = 2
# An animated lossless WebP needed the most memory: 20 bytes a pixel, and 50 MB more. The limit leaves room.
BYTES_A_PIXEL, OTHER_BYTES = 20, 128 * 2**20
WALL_FACTOR = 4  # seconds of wall time for each second of CPU time, since processes share cores
STOP_SECONDS = 0.5
# No secrets: the process reads hostile files. With the threshold, freed blocks of more than 1 MB are returned
# to the system; without it a process kept 0.6 GB.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "1000000"}
ROOT = Path(__file__).parents[1]


class OverLimits(ImageError):
    """Decoding took more time or memory than the limits allow, or its process crashed."""


class Lane:
    """Processes with the same limits. Each decodes one file at a time, in the order of arrival."""

    def __init__(self, size: int, max_pixels: int, cpu_seconds: float) -> None:
        self._size = size
        self._max_pixels = max_pixels
        self.cpu_seconds = cpu_seconds
        self.memory_bytes = OTHER_BYTES + BYTES_A_PIXEL * max_pixels
        self._turns = asyncio.Semaphore(size)  # in the order of arrival
        self._idle: list[Process] = []

    async def start(self) -> None:
        """Start the processes. They import their modules while the backend continues."""
        self._idle = [await self._launch() for _ in range(self._size)]

    async def stop(self) -> None:
        """Wait until all files are decoded or given up, then end the processes."""
        for _ in range(self._size):
            await self._turns.acquire()
        for process in self._idle:
            _kill(process)
            await process.wait()

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncGenerator[Process]:
        """A process for one file. An exception in the block kills the process."""
        async with self._turns:
            self._idle = [process for process in self._idle if process.returncode is None]
            process = self._idle.pop() if self._idle else await self._launch()
            try:
                yield process
            except BaseException:
                _kill(process)
                raise
            self._idle.append(process)

    async def _launch(self) -> Process:
        limits = (self._max_pixels, self.cpu_seconds, self.memory_bytes)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "backend.decoder",
            *map(str, limits),
            stdin=PIPE,
            stdout=PIPE,
            cwd=ROOT,
            env=ENVIRONMENT,
            start_new_session=True,  # Ctrl-C reaches only the backend
        )


class Decoders:
    """Two lanes of processes. A large or slow file delays ordinary ones by one second of CPU time at most.

    The ordinary lane decodes two files at a time. A file that exceeds the limits of this lane is decoded
    again in the second lane, one at a time, under the limits of the settings.
    """

    def __init__(self, max_pixels: int, max_seconds: float) -> None:
        pixels, seconds = min(ORDINARY_PIXELS, max_pixels), min(ORDINARY_SECONDS, max_seconds)
        self._ordinary = Lane(ORDINARY_PROCESSES, pixels, seconds)
        self._large = Lane(1, max_pixels, max_seconds)
        self._limits: set[asyncio.Timeout] = set()
        """Time limits of the files that are being decoded or wait for a process. `close` shortens them."""
        self._end: float | None = None
        self._files = 0
        self.idle = asyncio.Event()
        """Set while no file is being decoded or waits to be decoded."""
        self.idle.set()

    async def start(self) -> None:
        await self._ordinary.start()
        await self._large.start()

    def close(self) -> None:
        """The backend is stopping: give up files that are not decoded within half a second."""
        if self._end is None:
            self._end = asyncio.get_running_loop().time() + STOP_SECONDS
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(min(self._end, limit.when() or math.inf))

    async def stop(self) -> None:
        """End all processes."""
        self.close()
        await self._ordinary.stop()
        await self._large.stop()

    async def decode(self, data: bytes) -> bytes | ImageError:
        """The pixels of a file, or the reason for which it cannot be decoded. Raises STOPPING.

        The reason is returned, not raised: its traceback would keep the file in memory.
        """
        self._files += 1
        self.idle.clear()
        try:
            pixels = await self._decode_in(self._ordinary, data)
            if isinstance(pixels, (TooManyPixels, OverLimits)):
                return await self._decode_in(self._large, data)
            return pixels
        finally:
            self._files -= 1
            if not self._files:
                self.idle.set()

    async def _decode_in(self, lane: Lane, data: bytes) -> bytes | ImageError:
        limit = asyncio.timeout_at(self._end)  # no limit while the file waits, unless the backend is stopping
        self._limits.add(limit)
        try:
            async with limit, lane.take() as process:
                end = asyncio.get_running_loop().time() + WALL_FACTOR * lane.cpu_seconds
                limit.reschedule(end if self._end is None else min(end, self._end))
                if (answer := await _ask(process, data)) is not None:
                    return answer
        except TimeoutError:
            if self._end is not None:
                detail = "The backend is stopping or restarting. Send this again."
                raise ServiceError(Refusal.STOPPING, detail) from None
            logger.warning("decoder killed: out of time", extra={"bytes": len(data)})
        finally:
            self._limits.discard(limit)
        limits = f"{lane.cpu_seconds} s of CPU time or {lane.memory_bytes // 10**6:,} MB of memory"
        return OverLimits(
            f"Decoding failed, or needed more than {limits}. Save the image again as an ordinary JPEG or PNG."
        )


async def _ask(process: Process, data: bytes) -> bytes | ImageError | None:
    """Decode one file in a process; None if the process ends before it answers."""
    assert process.stdin and process.stdout
    request = {"bytes": len(data), "request_id": logs.request_id.get()}
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.write(data)
        await process.stdin.drain()
        answer = json.loads(await process.stdout.readuntil(b"\n"))
        if "refused" in answer:
            return getattr(errors, answer["refused"])(answer["text"])
        return await process.stdout.readexactly(answer["bytes"])
    except (EOFError, ConnectionError):
        status = await process.wait()  # negative: the number of the signal
        logger.warning("decoder ended", extra={"bytes": len(data), "exit_status": status})
        return None


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # the process has ended already
        process.kill()
