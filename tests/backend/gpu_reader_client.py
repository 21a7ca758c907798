"""Starts `gpu_reader.py` with the stand-in for NVIDIA's library, `nvml_stand_in.c`, and asks it for GPUs."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts.local.config import REPOSITORY
from tests.conftest import eventually

LIBRARY = "libnvidia-ml.so.1"

ANSWER_SECONDS = 30
"""Far longer than any answer takes, so that tests pass on a busy machine."""


class Reader:
    """Starts the process and talks to it. `folder` is the first folder of its library path.

    `library` is the compiled stand-in. `install_driver` copies it into the folder.
    """

    def __init__(self, folder: Path, library: Path) -> None:
        self._library = library
        self._place = folder / LIBRARY
        self._behaviour = folder / "behaviour"
        self._calls = folder / "behaviour.calls"
        # This empty file cannot be loaded, and the process finds it before the library of a real driver.
        self._place.touch()
        self._calls.touch()
        self.behave()

    async def start(self) -> None:
        environment = {
            "LD_LIBRARY_PATH": str(self._place.parent),
            "NVML_STAND_IN": str(self._behaviour),
        }
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "tests.backend.gpu_reader"),
            cwd=REPOSITORY,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def install_driver(self) -> None:
        new = self._place.with_suffix(".new")
        shutil.copy(self._library, new)
        new.replace(self._place)

    def behave(self, *rules: str) -> None:
        """Replace the rules that the stand-in obeys (see its C file). Without rules every call succeeds."""
        new = self._behaviour.with_suffix(".new")
        new.write_text("\n".join(rules))
        new.replace(self._behaviour)

    def count_calls(self, function: str) -> int:
        return self._calls.read_text().split().count(function)

    async def wait_for_calls(self, count: int, function: str) -> None:
        async def called() -> bool:
            return self.count_calls(function) == count

        await eventually(called, ANSWER_SECONDS)

    async def read(self, count: int = 1, deadline_seconds: float = ANSWER_SECONDS) -> list[Any]:
        """Ask `count` times at once; lists the answers: GPUs, why there are none, or None at the deadline."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{count} {deadline_seconds}\n".encode())
        async with asyncio.timeout(ANSWER_SECONDS + deadline_seconds):
            return json.loads(await self.process.stdout.readline())

    async def read_one(self) -> Any:
        return (await self.read())[0]

    async def end(self) -> tuple[int | None, str]:
        """End the process; returns its exit status and its standard error."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                _, errors = await self.process.communicate(b"")
        except TimeoutError:
            self.process.kill()
            await self.process.communicate()
            raise
        return self.process.returncode, errors.decode()
