"""The child process that trains one run: its reports, and its end.

The worker writes one line to the child's standard input to allow the child to publish. If the worker is
killed, this input closes, and `training.train` exits.
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
from typing import Any, TextIO
from uuid import UUID

from training.worker.run import TrainingFailed

logger = logging.getLogger(__name__)

TERM_SECONDS = 2.0
MAX_LAST_LINE = 1000  # characters of standard error's last line that are shown
SECRETS = ("DATABASE_URL", "BROKER_URL")
# The first two make glibc keep large buffers instead of mapping new ones at each step. The third hides
# progress bars, which would write thousands of lines to the log.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "10000000000",
    "MALLOC_TRIM_THRESHOLD_": "10000000000",
    "TQDM_DISABLE": "1",
}


class Child:
    """One run's process. Leaving the context ends it if it still runs, with all processes that it started."""

    def __init__(self, command: Sequence[str], training: UUID) -> None:
        self._log = {"training_id": str(training)}
        self._last_line = ""
        self._messages: Queue[dict[str, Any]] = Queue()
        inherited = {name: value for name, value in os.environ.items() if name not in SECRETS}
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # stays open until the child or the worker has ended
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=inherited | ENVIRONMENT,
            process_group=0,
        )
        self._readers = [
            Thread(target=self._read_messages, args=(process.stdout,), daemon=True),
            Thread(target=self._read_errors, args=(process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for reader in self._readers:
            reader.join(TERM_SECONDS)
        with suppress(BrokenPipeError), self._process:  # the child may have ended before it read its input
            pass  # Popen closes the pipes

    def read(self, seconds: float) -> dict[str, Any] | None:
        """The next report, or None if there is none within `seconds`.

        Raises TrainingFailed if the process has ended and every report has been read.
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
            raise explain(self._process.returncode, self._last_line) from None

    def allow(self) -> None:
        """Allow the child to publish its model."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the child has ended; `read` says how
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def wait(self, seconds: float) -> None:
        """Give the child time to end."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            logger.warning("the child has published, but does not end", extra=self._log)

    def stop(self) -> None:
        """End the child with SIGTERM, and with SIGKILL if it still runs two seconds later."""
        if self._process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(TERM_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # the child has just ended
            os.killpg(self._process.pid, number)

    def _read_messages(self, lines: TextIO) -> None:
        for line in lines:
            try:
                message = json.loads(line, object_hook=_make_storable)
            except ValueError:
                message = None
            if isinstance(message, dict):
                self._messages.put(message)
            elif line.strip():
                logger.warning("this line is not a report: %.200s", line.strip(), extra=self._log)

    def _read_errors(self, lines: TextIO) -> None:
        for line in lines:
            if text := line.replace("\0", "").strip():
                self._last_line = text
                logger.info("the child writes: %.1000s", text, extra=self._log)


def explain(status: int, last_line: str) -> TrainingFailed:
    """Why a child ended, if it neither published a model nor reported an error."""
    said = f" Its last line was: {last_line[:MAX_LAST_LINE]}" if last_line else ""
    if status >= 0:
        ended = "ended without publishing a model" if status == 0 else f"ended with exit status {status}"
        return TrainingFailed("Training crashed", f"The training process {ended}.{said}")
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    detail = f"The training process was ended by {name}."
    if -status == signal.SIGKILL:
        detail += " The system does that when memory runs out: give the worker more memory, or use less data."
    return TrainingFailed("Training crashed", detail + said)


def _make_storable(message: dict[str, Any]) -> dict[str, Any]:
    """Remove NUL and replace surrogates (from names not in UTF-8): PostgreSQL's text cannot hold them."""
    return {
        key: value.encode("utf-8", "replace").decode().replace("\0", "") if isinstance(value, str) else value
        for key, value in message.items()
    }
