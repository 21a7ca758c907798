"""Celery's consumer, changed to take one run at a time.

A run takes minutes to hours, and RabbitMQ closes a channel that leaves a message unacknowledged for half an
hour. So the worker acknowledges a message when its run begins, and consumes no message until the run has
ended. Waiting messages stay in the queue, where other workers can take them. The row makes a run durable, not
the message.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Celery, Task
from celery.events.dispatcher import EventDispatcher
from celery.exceptions import InvalidTaskError
from celery.worker import consumer as celery_consumer
from celery.worker import state, strategy
from celery.worker.request import Request

logger = logging.getLogger(__name__)

QUEUE = "training"
DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


def start(task: Task, app: Celery, consumer: "Consumer") -> Callable[..., Any]:
    """Celery's default strategy, after a check of the message."""
    handle = strategy.default(task, app, consumer)

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
    """Declares no exchange or queue, and survives every message: the broker dead-letters a malformed one."""

    class Blueprint(celery_consumer.Consumer.Blueprint):
        default_steps = [  # noqa: RUF012
            step for step in celery_consumer.Consumer.Blueprint.default_steps if step != DELAYED_DELIVERY
        ]

    app: Celery
    hub: Any
    pool: Any
    event_dispatcher: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.on_task_request = self.take

    def take(self, request: Request) -> None:
        """Begin a run. Called in the loop's thread. A prefetch of one holds back the second message."""
        try:
            self.cancel_task_queue(QUEUE)
        except Exception:
            # The connection is lost, so the broker redelivers the message. The next connection must consume
            # again.
            self.app.amqp.queues.select_add(self.app.amqp.queues[QUEUE])
            raise
        request.on_accepted(os.getpid(), time.monotonic())  # acknowledges the message
        self.pool.apply_async(self.run, (request,))

    def run(self, request: Request) -> None:
        """Run one request in the pool's thread, and send its outcome to Flower."""
        started = time.monotonic()
        asked_by = {"training_id": request.id, "request_id": request.request_dict.get("request_id")}
        logger.info("training taken", extra=asked_by)
        try:
            value = request.task.run(*request.args)
            request.on_success((False, str(value), time.monotonic() - started))
        except Exception:
            request.on_failure(ExceptionInfo())
        finally:
            self.hub.call_soon(self.resume)
            if state.should_stop is not None and self.event_dispatcher:  # the loop may have ended already
                self.event_dispatcher.flush()

    def resume(self) -> None:
        """Consume from the queue again. Called in the loop's thread."""
        if state.should_stop is None and state.should_terminate is None:
            self.add_task_queue(QUEUE)

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
    """Celery's events, sent to the exchange of the broker's definitions."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.exchange.no_declare = True
