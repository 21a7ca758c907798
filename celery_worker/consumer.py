"""Celery's consumer: receives messages, sends Celery events."""

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.events.dispatcher import EventDispatcher
from celery.worker import consumer as celery_consumer
from celery.worker.request import Request
from kombu.entity import Exchange, Queue

from celery_worker.task import WorkerTask

logger = logging.getLogger(__name__)

EVENTS_SECONDS = 0.1
EVENTS_LIMIT = 1000  # as soon as this many events wait, they are sent
DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class TaskQueue(Queue):
    """A queue with its own prefetch: how many of its messages a worker may hold unacknowledged.

    RabbitMQ counts the prefetch of each quorum queue separately. Celery sets one value for all queues. The
    worker does not declare the queue and its exchange: they are in the broker's definitions.
    """

    attrs = (*Queue.attrs, ("prefetch", int))
    prefetch: int

    @classmethod
    def build(cls, name: str, prefetch: int, exchange: str) -> "TaskQueue":
        return cls(
            name,
            Exchange(exchange, no_declare=True),
            routing_key=name,
            no_declare=True,
            queue_arguments={"x-queue-type": "quorum"},
            prefetch=prefetch,
        )

    def consume(self, *args: Any, **options: Any) -> Any:
        self.channel.basic_qos(0, self.prefetch, False)  # noqa: FBT003 (argument names vary by transport)
        return super().consume(*args, **options)


class Consumer(celery_consumer.Consumer):
    """Gives each request to its task, declares no queues for delayed tasks, and survives every message.

    A malformed message is rejected, so the broker dead-letters it. Celery would acknowledge some malformed
    messages and so lose them. Others would end the worker, which would receive them again after its restart.

    Events of tasks are collected for 0.1 s and sent together. Celery would send them at each turn of its
    loop. That took a fifth of the worker's CPU time outside the model, and time of the broker and Flower.
    """

    class Blueprint(celery_consumer.Consumer.Blueprint):
        default_steps = [  # noqa: RUF012
            step for step in celery_consumer.Consumer.Blueprint.default_steps if step != DELAYED_DELIVERY
        ]

    hub: Any
    event_dispatcher: Any
    events_are_due = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.on_task_request = self.take

    def take(self, request: Request) -> None:
        request.task.take(request)

    def on_send_event_buffered(self) -> None:
        if not self.events_are_due:
            self.events_are_due = True
            # Only the loop's thread may call call_later, but this method may run in a thread of the pool.
            self.hub.call_soon(self.hub.call_later, EVENTS_SECONDS, self.flush_events)

    def flush_events(self) -> None:
        """Send the buffered events. May be called in any thread."""
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
    """Celery events, sent to the broker's existing exchange. Worker events also hold `task.describe()`."""

    app: Celery

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, buffer_limit=EVENTS_LIMIT, **options)
        self.exchange.no_declare = True

    def send(self, type: str, *args: Any, **fields: Any) -> Any:
        if type.startswith("worker-"):
            for task in self.app.tasks.values():
                if isinstance(task, WorkerTask):
                    fields |= task.describe()
        return super().send(type, *args, **fields)
