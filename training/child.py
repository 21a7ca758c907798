"""The process that trains: what it says, why it ended, and how it is ended.

It reads one line, that it may publish, and ends by itself when its standard input does, which is when its
worker is killed.
"""

import json
import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, Queue
from threading import Thread
from types import TracebackType
from typing import Any, TextIO
from uuid import UUID

from training.errors import DataError, Diverged, InstallError, OtherRun, TrainingFailed

logger = logging.getLogger(__name__)

TERM_SECONDS = 2.0
LONGEST_REASON = 1000  # characters of the last line that are shown
WORDS = "train: "  # how a reason for people begins
SECRETS = ("DATABASE_URL", "BROKER_URL")
# Large buffers come from a heap that keeps them, instead of being mapped anew at each step; and the bars that
# libraries draw, as for a download, would be thousands of lines in the log.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "10000000000",
    "MALLOC_TRIM_THRESHOLD_": "10000000000",
    "TQDM_DISABLE": "1",
}


class Child:
    """One run's process. Leaving the context ends it, with all that it has started."""

    def __init__(self, command: Sequence[str], training: UUID) -> None:
        self._log = {"training_id": str(training)}
        self._last_words = ""
        self._messages: Queue[dict[str, Any]] = Queue()
        inherited = {name: value for name, value in os.environ.items() if name not in SECRETS}
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # held open; its end tells the child that the worker is gone
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=inherited | ENVIRONMENT,
            process_group=0,
        )
        self._readers = [
            Thread(target=self._read_messages, args=(process.stdout,), daemon=True),
            Thread(target=self._read_words, args=(process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for reader in self._readers:
            reader.join(TERM_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):  # of a line that it did not live to read
                    pipe.close()

    def read(self, seconds: float) -> dict[str, Any] | None:
        """What it said next, or None when it says nothing for so long.

        Raises TrainingFailed when it has ended and all is read.
        """
        try:
            return self._messages.get(timeout=seconds)
        except Empty:
            if self._process.poll() is None:
                return None
            for reader in self._readers:
                reader.join(TERM_SECONDS)
            if not self._messages.empty():
                return self._messages.get()
            raise explain(self._process.returncode, self._last_words) from None

    def allow(self) -> None:
        """Let it publish its model."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; `read` says how
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def wait(self, seconds: float) -> None:
        """Give it time to end by itself."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            logger.warning("it has published, but does not end", extra=self._log)

    def stop(self) -> None:
        """End it: with SIGTERM, and with SIGKILL two seconds later."""
        if self._process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(TERM_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it may have ended just now
            os.killpg(self._process.pid, number)

    def _read_messages(self, lines: TextIO) -> None:
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if isinstance(message, dict):
                self._messages.put(message)
            elif line.strip():
                logger.warning("this is no report: %.200s", line.strip(), extra=self._log)

    def _read_words(self, lines: TextIO) -> None:
        for line in lines:
            if words := line.replace("\0", "").strip():  # PostgreSQL's text holds no NUL
                self._last_words = words
                logger.info("it says: %.1000s", words, extra=self._log)


def explain(status: int, last_words: str) -> TrainingFailed:
    """Why a run ended that has published nothing, from its exit status and its last line."""
    said = f" It said last: {last_words[:LONGEST_REASON]}" if last_words else ""
    if status == DataError.status and last_words.startswith(WORDS):
        return TrainingFailed("Data cannot be used", last_words.removeprefix(WORDS)[:LONGEST_REASON])
    if status == Diverged.status and last_words.startswith(WORDS):
        return TrainingFailed("Training diverged", last_words.removeprefix(WORDS)[:LONGEST_REASON])
    if status == InstallError.status and last_words.startswith(WORDS):
        return TrainingFailed("PyTorch is missing", last_words.removeprefix(WORDS)[:LONGEST_REASON])
    if status == OtherRun.status and last_words.startswith(WORDS):
        return TrainingFailed(
            "Training cannot go on",
            "Its checkpoint does not fit: the training service, or the data, was changed since it began. "
            "Start another training.",
        )
    if status >= 0:
        ended = "ended without publishing a model" if status == 0 else f"ended with exit status {status}"
        return TrainingFailed("Training crashed", f"The training process {ended}.{said}")
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    detail = f"The training process was ended by {name}.{said}"
    if -status == signal.SIGKILL:
        detail += " That is what happens when memory runs out: give the worker more, or use less data."
    return TrainingFailed("Training crashed", detail)
