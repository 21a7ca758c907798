"""Batching inside Celery: take what waits when the device is free.

Celery asks a task's `Strategy` what to do with each message. The default strategy hands each
request to the pool at once; this one gives them to a Collector, which starts a batch as soon as none
is running. There is no timer: a lone request waits only for the batch before it. Requests are
Celery's own, so events, revokes and Flower see every prediction.
"""

import logging
import os
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Celery, Task
from celery.events.dispatcher import EventDispatcher
from celery.exceptions import InvalidTaskError
from celery.worker import consumer as celery_consumer
from celery.worker import state, strategy
from celery.worker.request import Request

from inference.errors import DeviceLost

logger = logging.getLogger(__name__)

EVENTS_SECONDS = 0.1
EVENTS_LIMIT = 1000
DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


@dataclass(frozen=True)
class Call:
    """What one message asks for: its positional arguments, and the headers that it came with."""

    arguments: Sequence[Any]
    headers: Mapping[str, Any]


class BatchTask(Task):
    """A task whose requests run together, at most `max_batch_size` at a time."""

    abstract = True
    Strategy = "inference.batching:start"
    acks_late = True
    ignore_result = True
    max_batch_size: int

    def __init__(self) -> None:
        self.collector = Collector(self)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the worker's heartbeats say of this task, for the health report."""

    @abstractmethod
    def run_batch(self, calls: Sequence[Call]) -> list[Any]:
        """Run calls.

        Returns one value for each call, in order: what it gave, or the exception that it failed with.
        Raising leaves every message to be delivered again; DeviceLost ends the process, too.
        """

    def run(self, *args: Any) -> Any:
        (value,) = self.run_batch([Call(args, {})])
        if isinstance(value, Exception):
            raise value
        return value


class Collector:
    """The requests of one task that wait for the device, and whether it is busy.

    `waiting` and `redelivered` are touched by the consumer's loop alone. A message that was delivered
    before may be the reason for a crash, so it runs in a batch of its own.
    """

    def __init__(self, task: BatchTask) -> None:
        self.task = task
        self.waiting: deque[Request] = deque()
        self.redelivered: deque[Request] = deque()
        self.busy = False
        self.batches = 0
        """Batches run since the worker's start."""

    def connect(self, consumer: Any) -> None:
        """Start over on a new connection: what waited is the broker's again, and will come back."""
        self.consumer = consumer
        self.waiting.clear()
        self.redelivered.clear()

    def add(self, request: Request) -> None:
        queue = self.redelivered if request.delivery_info["redelivered"] else self.waiting
        queue.append(request)
        if not self.busy:
            # After the messages that have already arrived, so that they share this batch.
            self.consumer.hub.call_later(0, self.flush)

    def flush(self) -> None:
        """Start a batch if the device is free; runs in the consumer's loop."""
        if self.busy or state.should_stop is not None or state.should_terminate is not None:
            return
        batch = self.take()
        if batch:
            self.busy = True
            self.consumer.pool.apply_async(self.run, (batch, self.consumer.hub))

    def take(self) -> list[Request]:
        """The next batch: one request that was delivered before, else as many new ones as fit."""
        if self.redelivered:
            return [self.redelivered.popleft()]
        count = min(len(self.waiting), self.task.max_batch_size)
        return [self.waiting.popleft() for _ in range(count)]

    def run(self, batch: list[Request], hub: Any) -> None:
        """Run one batch in the pool's thread and settle each of its requests."""
        started = time.monotonic()
        try:
            for request in batch:
                request.on_accepted(os.getpid(), started)
            values = self.task.run_batch([Call(request.args, request.request_dict) for request in batch])
            if len(values) != len(batch):
                raise RuntimeError(f"{len(batch)} calls gave {len(values)} values")
            runtime = time.monotonic() - started
            for request, value in zip(batch, values, strict=True):
                settle(request, value, runtime)
        except DeviceLost:
            # Its messages go back when the connection breaks; a new process waits until the model loads.
            logger.exception("nothing can be classified any more; the process ends")
            os._exit(1)
        except Exception:
            logger.exception("a batch of %d was abandoned; its messages go back", len(batch))
            for request in batch:
                request.reject(requeue=True)
        finally:
            self.batches += 1
            self.busy = False
            hub.call_soon(self.flush)
            if state.should_stop is not None:  # the loop may have ended, and would not send them
                self.consumer.flush_events()


def settle(request: Request, value: Any, runtime: float) -> None:
    """Acknowledge one request and tell Flower how it ended."""
    if not isinstance(value, Exception):
        request.on_success((False, str(value), runtime))
        return
    try:
        raise value
    except type(value):
        request.on_failure(ExceptionInfo())


def start(task: BatchTask, app: Celery, consumer: Any) -> Callable[..., Any]:
    """Celery's own strategy, with the Collector in the place of the pool."""
    task.collector.connect(consumer)
    handle = strategy.default(task, app, _Collecting(consumer, task.collector.add))

    def check_and_handle(message: Any, *args: Any) -> Any:
        try:
            arguments, options, embed = message.payload
        except (TypeError, ValueError) as error:
            raise InvalidTaskError(f"the body is not [args, kwargs, embed]: {error}") from error
        shapes = (arguments, list), (options, dict), (embed, dict), (message.headers.get("id"), str)
        if not all(isinstance(value, shape) for value, shape in shapes):
            raise InvalidTaskError("the body or the header id has the wrong type")
        return handle(message, *args)

    return check_and_handle


class Consumer(celery_consumer.Consumer):
    """Celery's consumer, but it declares nothing and no message can end the worker.

    A malformed message is rejected, so the broker dead-letters it. Celery would acknowledge some
    kinds, which loses them, and raise for others, which ends the worker and starts a crash loop.

    Events go out together, ten times a second: one message at each turn of the loop, as Celery has it,
    took a fifth of the worker's time outside the model, and costs the broker and Flower, too.
    """

    class Blueprint(celery_consumer.Consumer.Blueprint):
        default_steps = [  # noqa: RUF012
            step for step in celery_consumer.Consumer.Blueprint.default_steps if step != DELAYED_DELIVERY
        ]

    hub: Any
    event_dispatcher: Any
    events_are_due = False

    def on_send_event_buffered(self) -> None:
        if not self.events_are_due:
            self.events_are_due = True
            # call_later is for the loop's thread, and this may be the pool's.
            self.hub.call_soon(self.hub.call_later, EVENTS_SECONDS, self.flush_events)

    def flush_events(self) -> None:
        """Send the events that have collected; from any thread."""
        self.events_are_due = False
        if self.event_dispatcher:
            self.event_dispatcher.flush()

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        handle: Callable[[Any], None] = super().create_task_handler(*args, **options)

        def guarded(message: Any) -> None:
            try:
                handle(message)
            except self.connection_errors:
                raise
            except Exception as error:
                self.on_decode_error(message, error)

        return guarded

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        logger.error("a malformed message goes to the dead letters: %r %.500r", exc, message.body)
        message.reject_log_error(logger, self.connection_errors)


class Events(EventDispatcher):
    """Celery's events, sent to the exchange that the broker's definitions hold.

    Those about the worker also carry what its batch task says of itself.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, buffer_limit=EVENTS_LIMIT, **options)
        self.exchange.no_declare = True

    app: Celery

    def send(self, type: str, *args: Any, **fields: Any) -> Any:
        if type.startswith("worker-"):
            for task in self.app.tasks.values():
                if isinstance(task, BatchTask):
                    fields |= task.describe()
        return super().send(type, *args, **fields)


class _Collecting:
    """A consumer as the default strategy sees it, with its way to the pool replaced."""

    def __init__(self, consumer: Any, on_task_request: Callable[[Request], None]) -> None:
        self._consumer = consumer
        self.on_task_request = on_task_request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)
