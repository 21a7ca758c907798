"""Batches in progress: while the device runs one, the next is read and the last one is written.

A batch passes its three stages in one thread. It enters a stage before it leaves the previous one. So batches
keep their order, each stage holds at most one batch, and a single prediction never changes threads.
"""

import logging
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any
from uuid import UUID

from celery.worker import state
from celery.worker.request import Request

from celery_worker.task import WorkerTask, fail
from inference import messages
from inference.collector import Batch, Collector, Group
from inference.errors import DeviceLost
from inference.outcomes import Outcome

logger = logging.getLogger(__name__)

STAGES = 3
"""Reading, running, writing. The pool has as many threads."""
BULK_PREFETCH = 16
"""Bulk messages that a worker holds, of up to 64 predictions each. Lower: messages of few predictions do not
fill the stages. Higher: a worker holds messages that an idle worker could run, and after a crash more
predictions run one by one."""


def count_prefetches(max_batch_size: int) -> dict[str, int]:
    """The messages that a worker holds, by queue. Interactive ones fill each stage and the next batch."""
    return {messages.INTERACTIVE: (STAGES + 1) * max_batch_size, messages.BULK: BULK_PREFETCH}


class BatchTask(WorkerTask):
    """A task whose predictions run together, at most `max_batch_size` at a time."""

    abstract = True
    acks_late = True
    max_batch_size: int

    def __init__(self) -> None:
        self.pipeline = Pipeline(self)

    def connect(self, consumer: Any) -> None:
        self.pipeline.connect(consumer)

    def check(self, arguments: list[Any]) -> None:
        messages.check(arguments)

    def take(self, request: Request) -> None:
        try:
            group = messages.parse(request)
        except ValueError as error:
            request.on_accepted(os.getpid(), time.monotonic())
            settle(request, error)
        else:
            self.pipeline.add(group)

    @abstractmethod
    def run_batch(
        self, request_ids: Mapping[UUID, str | None], next_stage: Callable[[], None], *, is_redelivered: bool
    ) -> Mapping[UUID, Outcome]:
        """Run predictions, given with the ids of their HTTP requests. Returns the outcomes that were written.

        Calls `next_stage` before it uses the device, and again before it writes. If it raises, the messages
        are returned to the broker. DeviceLost also ends the process.
        """

    @abstractmethod
    def report(self, outcomes: Mapping[UUID, Outcome | None]) -> str | Exception:
        """What Flower shows for a message with these outcomes. None: the prediction was skipped."""


class Pipeline:
    """Starts batches in the pool's threads. The consumer's loop calls all methods except `run`."""

    def __init__(self, task: BatchTask) -> None:
        self.task = task
        self.batches = 0
        """Batches run since the worker started."""
        self._stages = [Lock() for _ in range(STAGES)]
        self._is_alone = False
        """The latest batch is a redelivered prediction: no other batch may start until it has ended."""
        self._flush_is_due = False

    def connect(self, consumer: Any) -> None:
        """Start again on a new connection. The broker redelivers the messages that waited."""
        self._consumer = consumer
        self._collector = Collector(self.task.max_batch_size)
        self._flush_is_due = False

    def add(self, group: Group) -> None:
        self._collector.add(group)
        if not self._flush_is_due:
            self._flush_is_due = True
            # Runs after the messages that have already arrived are added, so that they share this batch.
            self._consumer.hub.call_later(0, self.flush)

    def flush(self) -> None:
        """Start the next batch, if one may start."""
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
        """Take a batch through the stages and settle its messages. Called in a thread of the pool."""
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
            # The broken connection returns the messages. The next process waits until the model loads.
            logger.exception("the device cannot classify any image; the process ends")
            os._exit(1)
        except Exception:
            logger.exception("a batch of %d failed; its messages are returned", len(batch.request_ids))
            for part in batch.parts:
                part.group.is_abandoned = True
                part.group.request.reject(requeue=True)
        finally:
            self.batches += 1
            self._stages[stage].release()
            self._wake()
            if state.should_stop is not None:  # the loop, which sends events, may have ended
                self._consumer.flush_events()

    def _wake(self) -> None:
        """Make the loop start the next batch. May be called in any thread."""
        if self._collector:
            self._consumer.hub.call_soon(self.flush)

    def _settle(self, group: Group) -> None:
        """Acknowledge a message once all its predictions are done, and report its end to Flower."""
        if group.started is not None and len(group.outcomes) == len(group.request_ids):
            settle(group.request, self.task.report(group.outcomes), time.monotonic() - group.started)


def _start(group: Group) -> None:
    if group.started is None:
        group.started = time.monotonic()
        group.request.on_accepted(os.getpid(), group.started)


def settle(request: Any, value: str | Exception, runtime: float = 0.0) -> None:
    """Acknowledge Celery's request. It succeeded with a text or failed with an exception."""
    if isinstance(value, str):
        request.on_success((False, value, runtime))
    else:
        fail(request, value)
