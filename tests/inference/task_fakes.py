"""Stand-ins for Celery's request and consumer, and for the runner of batches."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from inference.outcomes import Outcome, Row, Succeeded

SIZE = 3  # predictions in a full batch
STAGES = ("read", "run", "write")
SECONDS = 10  # a test fails if a wait takes longer


class Request:
    """Celery's request as the task uses it. Records the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_accepted(self, _pid: int, _time: float) -> None:
        self.calls.append("started")

    def on_success(self, failed_text_seconds: tuple[bool, str, float]) -> None:
        self.calls.append(f"succeeded {failed_text_seconds[1]}")

    def on_failure(self, info: Any) -> None:
        self.calls.append(f"failed {info.exception}")

    def reject(self, *, requeue: bool) -> None:
        self.calls.append("requeued" if requeue else "rejected")


class Consumer:
    """A consumer with a pool of real threads. Its loop turns only in `tick`."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.added = threading.Condition()
        self.hub = SimpleNamespace(
            call_later=lambda _delay, callback: self.call_soon(callback), call_soon=self.call_soon
        )
        self.executor = ThreadPoolExecutor(3)
        self.started: list[Any] = []
        self.pool = SimpleNamespace(apply_async=self.apply)
        self.flushes = 0

    def call_soon(self, callback: Callable[[], None]) -> None:
        with self.added:
            self.soon.append(callback)
            self.added.notify()

    def apply(self, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.started.append(self.executor.submit(target, *args))

    def flush_events(self) -> None:
        self.flushes += 1

    def tick(self) -> None:
        """Wait for callbacks, and run them in one turn of the loop."""
        with self.added:
            assert self.added.wait_for(lambda: self.soon, SECONDS)
            callbacks, self.soon = self.soon, []
        for callback in callbacks:
            callback()

    def finish(self) -> None:
        """Turn the loop until no batch waits or is in progress."""
        while not all(each.done() for each in self.started) or self.soon:
            if self.soon:
                self.tick()
            else:
                time.sleep(0.001)
        for each in self.started:
            each.result()


def make_cat(id: UUID) -> Succeeded:
    row = Row(id, b"", 0, datetime.now(UTC), 0.0)
    return Succeeded(row, "cat", 0.9, "[]", -3.0, unfamiliar=False)


def success(count: int) -> str:
    """The call that `Request` records for a message with `count` cats."""
    return "succeeded cat 90.0%" if count == 1 else f"succeeded {count} predictions: {count} succeeded"


class HoldingRunner:
    """A runner that can keep each batch in each stage until the test lets it leave. Every image is a cat."""

    def __init__(self) -> None:
        self.batches: list[list[UUID]] = []
        self.redelivered: list[UUID] = []
        self.now: dict[str, list[UUID]] = {}
        """The batch in each stage; an empty stage has no entry."""
        self.order: list[tuple[str, UUID]] = []
        """The stages that batches entered, each with the first id of the batch."""
        self.allowed: dict[str, int] = {}
        """How many more batches may leave each stage."""
        self.changed = threading.Condition()
        self.error: BaseException | None = None
        self.release_all()

    def release_all(self) -> None:
        """Let every batch leave every stage at once."""
        self.allowed = dict.fromkeys(STAGES, 1000)
        with self.changed:
            self.changed.notify_all()

    def hold_all(self) -> None:
        """Let no batch leave a stage until `let_one_leave`."""
        self.allowed = dict.fromkeys(STAGES, 0)

    def let_one_leave(self, stage: str) -> None:
        with self.changed:
            self.allowed[stage] += 1
            self.changed.notify_all()

    def wait(self, **batches: list[UUID]) -> None:
        """Wait until each given stage holds the batch that is given for it."""
        with self.changed:
            arrived = self.changed.wait_for(
                lambda: all(self.now.get(s) == ids for s, ids in batches.items()), SECONDS
            )
        assert arrived, self.now

    def describe(self) -> dict[str, Any]:
        return {}

    def run(
        self, request_ids: Mapping[UUID, str | None], advance: Callable[[], None], *, is_redelivered: bool
    ) -> Mapping[UUID, Outcome]:
        ids = list(request_ids)
        self.batches.append(ids)
        self.redelivered += ids if is_redelivered else []
        for stage in STAGES:
            if stage != "read":
                advance()
            with self.changed:
                assert stage not in self.now
                self.now[stage] = ids
                self.order.append((stage, ids[0]))
                self.changed.notify_all()
                assert self.changed.wait_for(lambda: self.allowed[stage], SECONDS)  # noqa: B023
                self.allowed[stage] -= 1
                del self.now[stage]
            if self.error and stage == "run":
                raise self.error
        return {id: make_cat(id) for id in ids}
