"""The task `inference.classify`: its messages become batches, and each batch passes three stages.

While the device runs one batch, the next is read and the previous one is written. A batch passes its stages
in one thread, because a change of thread would delay a lone prediction. Each stage has a lock and holds at
most one batch. A batch enters a stage before it leaves the previous one, so batches keep their order.
"""

import logging
import os
import time
from threading import Lock
from typing import Any

from celery.worker import state
from celery.worker.request import Request

from celery_worker.task import WorkerTask, fail
from inference import messages
from inference.collector import Batch, Collector, Group
from inference.errors import DeviceLost
from inference.runner import BatchRunner

logger = logging.getLogger(__name__)

STAGES = 3
"""Reading, running, writing. The pool has as many threads."""
BULK_PREFETCH = 16
"""Bulk messages that a worker holds, of up to 64 predictions each. Lower: messages of few predictions do not
fill the stages. Higher: a worker holds messages that an idle worker could run, and after a crash more
predictions run one by one."""


def count_prefetches(max_batch_size: int) -> dict[str, int]:
    """The messages that a worker holds, by queue. Interactive: a full batch in each stage, and the next."""
    return {messages.INTERACTIVE: (STAGES + 1) * max_batch_size, messages.BULK: BULK_PREFETCH}


class Classify(WorkerTask):
    """Classify stored images. The only argument is a list of prediction ids.

    Predictions run together, at most `max_batch_size` at a time. The pool's threads call `run_batch`. The
    consumer's loop calls all other public methods.
    """

    name = "inference.classify"
    acks_late = True

    def __init__(self, runner: BatchRunner, max_batch_size: int) -> None:
        self.runner = runner
        self.max_batch_size = max_batch_size
        self.batches = 0
        """Batches run since the worker started."""
        self._stages = [Lock() for _ in range(STAGES)]
        self._latest_is_redelivered = False
        """If true, no other batch may start until the latest one has ended."""

    def connect(self, consumer: Any) -> None:
        super().connect(consumer)
        self._collector = Collector(self.max_batch_size)
        self._next_is_due = False

    def check(self, arguments: list[Any]) -> None:
        messages.check(arguments)

    def take(self, request: Request) -> None:
        try:
            group = messages.parse(request)
        except ValueError as error:
            request.on_accepted(os.getpid(), time.monotonic())
            fail(request, error)
        else:
            self.add(group)

    def describe(self) -> dict[str, Any]:
        return {**self.runner.describe(), "batches": self.batches}

    def add(self, group: Group) -> None:
        """Add the predictions of a message to those that wait for a batch."""
        self._collector.add(group)
        if not self._next_is_due:
            self._next_is_due = True
            # Called when all messages that have arrived are added, so that they share the next batch.
            self.consumer.hub.call_later(0, self.start_next)

    def start_next(self) -> None:
        """Start the next batch, if one may start."""
        self._next_is_due = False
        if state.should_stop is not None or state.should_terminate is not None:
            return
        # Looks at the stages in their order: a batch that moves on meanwhile is still seen in one of them.
        reading, device, writing = [stage.locked() for stage in self._stages]
        is_idle = not (reading or device or writing)
        if reading or (self._latest_is_redelivered and not is_idle):
            return
        batch = self._collector.choose(is_idle=is_idle, device_is_free=not device)
        if batch is not None:
            self._latest_is_redelivered = batch.is_redelivered
            self._stages[0].acquire()  # never waits: no other thread acquires it
            self.consumer.pool.apply_async(self.run_batch, (batch,))

    def run_batch(self, batch: Batch) -> None:
        """Take a batch through the stages, and acknowledge its messages. Called in a thread of the pool."""
        stage = 0

        def advance() -> None:
            nonlocal stage
            self._stages[stage + 1].acquire()
            self._stages[stage].release()
            stage += 1
            self._wake()

        try:
            for part in batch.parts:
                if part.group.started is None:
                    part.group.started = time.monotonic()
                    part.group.request.on_accepted(os.getpid(), part.group.started)
            outcomes = self.runner.run(batch.request_ids, advance, is_redelivered=batch.is_redelivered)
            for part in batch.parts:
                part.group.outcomes.update((id, outcomes.get(id)) for id in part.ids)
                _acknowledge_if_done(part.group)
        except DeviceLost:
            # After the exit RabbitMQ delivers the messages again. The next process waits until a model loads.
            logger.exception("the device cannot classify any image; the process ends")
            os._exit(1)
        except Exception:
            logger.exception("a batch of %d failed; its messages are returned", len(batch.request_ids))
            for part in batch.parts:
                part.group.is_returned = True
                part.group.request.reject(requeue=True)
        finally:
            self.batches += 1
            self._stages[stage].release()
            self._wake()
            if state.should_stop is not None:  # the loop, which sends Celery events, may have ended
                self.consumer.flush_events()

    def _wake(self) -> None:
        """Make the loop start the next batch. May be called in any thread."""
        if self._collector:
            self.consumer.hub.call_soon(self.start_next)


def _acknowledge_if_done(group: Group) -> None:
    """Acknowledge a message once all its predictions are done, and tell Flower how it ended."""
    if group.started is None or len(group.outcomes) < len(group.request_ids):
        return
    summary = messages.summarize(group.outcomes)
    if isinstance(summary, str):
        group.request.on_success((False, summary, time.monotonic() - group.started))
    else:
        fail(group.request, summary)
