"""Batches at work: the next one is read and the last one is written while the device runs one.

A batch passes its stages in one thread, and enters a stage before it leaves the one before. So batches keep
their order, each stage has one batch at most, and a lone prediction waits for no other thread.
"""

import logging
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any
from uuid import UUID

from billiard.einfo import ExceptionInfo
from celery import Task
from celery.worker import state

from inference.collector import Batch, Collector, Group
from inference.errors import DeviceLost
from inference.outcomes import Outcome

logger = logging.getLogger(__name__)

STAGES = 3
"""Reading, running, writing. As many threads as the pool has."""


class BatchTask(Task):
    """A task whose predictions run together, at most `max_batch_size` at a time."""

    abstract = True
    Strategy = "inference.consumer:start"
    acks_late = True
    ignore_result = True
    max_batch_size: int

    def __init__(self) -> None:
        self.pipeline = Pipeline(self)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the worker's heartbeats say of this task, for the health report."""

    @abstractmethod
    def run_batch(
        self, request_ids: Mapping[UUID, str | None], next_stage: Callable[[], None], *, is_redelivered: bool
    ) -> Mapping[UUID, Outcome]:
        """Run predictions, given with the ids of their HTTP requests; returns the outcomes that were written.

        Calls `next_stage` before it uses the device, and again before it writes. Raising sends the messages
        back to the broker; DeviceLost ends the process, too.
        """

    @abstractmethod
    def report(self, outcomes: Mapping[UUID, Outcome | None]) -> str | Exception:
        """What Flower shows for a message with these outcomes; None: there was nothing to do."""


class Pipeline:
    """Starts batches in the pool's threads. The consumer's loop calls all methods but `run`."""

    def __init__(self, task: BatchTask) -> None:
        self.task = task
        self.batches = 0
        """Batches run since the worker's start."""
        self._stages = [Lock() for _ in range(STAGES)]
        self._is_alone = False
        self._flush_is_due = False

    def connect(self, consumer: Any) -> None:
        """Start over on a new connection: the broker will deliver again what waited."""
        self._consumer = consumer
        self._collector = Collector(self.task.max_batch_size)
        self._flush_is_due = False

    def add(self, group: Group) -> None:
        self._collector.add(group)
        if not self._flush_is_due:
            self._flush_is_due = True
            # After the messages that have already arrived, so that they share this batch.
            self._consumer.hub.call_later(0, self.flush)

    def flush(self) -> None:
        """Start the next batch, if it may start."""
        self._flush_is_due = False
        if state.should_stop is not None or state.should_terminate is not None:
            return
        # In this order: a batch that moves on meanwhile is seen in one of its stages.
        reading, device, writing = [stage.locked() for stage in self._stages]
        is_idle = not (reading or device or writing)
        if reading or (self._is_alone and not is_idle):
            return
        batch = self._collector.take(is_idle=is_idle, device_is_free=not device)
        if batch is not None:
            self._is_alone = batch.is_redelivered
            self._stages[0].acquire()  # never waits: no other thread acquires it
            self._consumer.pool.apply_async(self.run, (batch,))

    def run(self, batch: Batch) -> None:
        """Take a batch through the stages and settle its messages; in a thread of the pool."""
        stage = 0

        def next_stage() -> None:
            nonlocal stage
            self._stages[stage + 1].acquire()
            self._stages[stage].release()
            stage += 1
            self._wake()

        try:
            for part in batch.parts:
                _start(part.group)
            outcomes = self.task.run_batch(batch.request_ids, next_stage, is_redelivered=batch.is_redelivered)
            for part in batch.parts:
                part.group.outcomes.update((id, outcomes.get(id)) for id in part.ids)
                self._settle(part.group)
        except DeviceLost:
            # The messages go back when the connection breaks; a new process waits until the model loads.
            logger.exception("nothing can be classified any more; the process ends")
            os._exit(1)
        except Exception:
            logger.exception("a batch of %d was abandoned; its messages go back", len(batch.request_ids))
            for part in batch.parts:
                part.group.is_abandoned = True
                part.group.request.reject(requeue=True)
        finally:
            self.batches += 1
            self._stages[stage].release()
            self._wake()
            if state.should_stop is not None:  # the loop may have ended, and would not send them
                self._consumer.flush_events()

    def _wake(self) -> None:
        """Have the loop start what waits; from any thread."""
        if self._collector:
            self._consumer.hub.call_soon(self.flush)

    def _settle(self, group: Group) -> None:
        """Acknowledge a message whose predictions are all done, and tell Flower how it ended."""
        if group.started is not None and len(group.outcomes) == len(group.request_ids):
            settle(group.request, self.task.report(group.outcomes), time.monotonic() - group.started)


def _start(group: Group) -> None:
    if group.started is None:
        group.started = time.monotonic()
        group.request.on_accepted(os.getpid(), group.started)


def settle(request: Any, value: str | Exception, runtime: float = 0.0) -> None:
    """Acknowledge Celery's request: it succeeded with a text, or failed with an exception."""
    if isinstance(value, str):
        request.on_success((False, value, runtime))
        return
    try:
        raise value
    except type(value):
        info: Any = ExceptionInfo()
        info.exception = value  # as Celery's own tracer does: Flower would show the name of the wrapper
        request.on_failure(info)
