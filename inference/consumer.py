"""Celery's consumer: messages in, predictions to the pipeline, events out.

Celery asks a task's `Strategy` what to do with each message. The default strategy gives each request to the
pool; this one gives its predictions to the task's Pipeline. Requests are Celery's own, so its events and
Flower work.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery import Celery
from celery.events.dispatcher import EventDispatcher
from celery.exceptions import InvalidTaskError
from celery.worker import consumer as celery_consumer
from celery.worker import strategy
from celery.worker.request import Request
from kombu.entity import Exchange, Queue

from inference.collector import Group
from inference.pipeline import STAGES, BatchTask, settle

logger = logging.getLogger(__name__)

EXCHANGE = INTERACTIVE = "inference"
BULK = "inference.bulk"
BULK_PREFETCH = 16
"""Bulk messages that a worker holds, of up to 64 predictions each. Lower: messages of few predictions do not
fill the stages. Higher: a worker holds more than it can run while another one has nothing to run, and a crash
makes more predictions run alone."""
MAX_PREDICTIONS = 1000
"""In one message."""
EVENTS_SECONDS = 0.1
EVENTS_LIMIT = 1000
DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class TaskQueue(Queue):
    """A queue that the broker's definitions hold, with a prefetch of its own.

    The broker counts the prefetch of each queue by itself (for quorum queues it
    must). Celery sets one for all.
    """

    attrs = (*Queue.attrs, ("prefetch", int))
    prefetch: int

    def consume(self, *args: Any, **options: Any) -> Any:
        self.channel.basic_qos(0, self.prefetch, False)  # noqa: FBT003 (its parameters have no names)
        return super().consume(*args, **options)


def build_queues(max_batch_size: int) -> list[Queue]:
    """The queues of this worker.

    Lone uploads fill a batch in each stage and the next one, which is the prefetch of the interactive queue.
    """
    prefetches = {INTERACTIVE: (STAGES + 1) * max_batch_size, BULK: BULK_PREFETCH}
    exchange = Exchange(EXCHANGE, no_declare=True)
    return [
        TaskQueue(
            name,
            exchange,
            routing_key=name,
            no_declare=True,
            queue_arguments={"x-queue-type": "quorum"},
            prefetch=prefetch,
        )
        for name, prefetch in prefetches.items()
    ]


def start(task: BatchTask, app: Celery, consumer: Any) -> Callable[..., Any]:
    """Celery's own strategy, with the Pipeline in the place of the pool."""
    task.pipeline.connect(consumer)

    def take(request: Request) -> None:
        try:
            group = _parse(request)
        except (TypeError, ValueError, AttributeError):
            request.on_accepted(os.getpid(), time.monotonic())
            settle(request, ValueError(f"not a list of prediction ids: {request.args!r:.200}"))
        else:
            task.pipeline.add(group)

    handle = strategy.default(task, app, _Collecting(consumer, take))

    def check_and_handle(message: Any, *args: Any) -> Any:
        try:
            arguments, options, embed = message.payload
            (ids,) = arguments
        except (TypeError, ValueError) as error:
            raise InvalidTaskError(f"the body is not [[ids], kwargs, embed]: {error}") from error
        shapes = (
            (arguments, list),
            (ids, list),
            (options, dict),
            (embed, dict),
            (message.headers.get("id"), str),
        )
        if not all(isinstance(value, shape) for value, shape in shapes):
            raise InvalidTaskError("the body or the header id has the wrong type")
        if not 1 <= len(ids) <= MAX_PREDICTIONS:
            raise InvalidTaskError(f"{len(ids)} predictions in a message, not 1 to {MAX_PREDICTIONS}")
        return handle(message, *args)

    return check_and_handle


def _parse(request: Request) -> Group:
    """Raises what UUID raises for what is no id."""
    ids = [UUID(text) for text in request.args[0]]
    given = request.request_dict.get("request_ids")
    known = isinstance(given, list) and len(given) == len(ids)
    return Group(
        request,
        dict(zip(ids, given if known else [None] * len(ids), strict=True)),
        is_bulk=request.delivery_info["routing_key"] == BULK,
        is_redelivered=bool(request.delivery_info["redelivered"]),
    )


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
