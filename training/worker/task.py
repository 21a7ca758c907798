"""The task `training.train`, which runs one training at a time.

A run takes minutes to hours, and RabbitMQ closes a channel that leaves a message unacknowledged for half an
hour. So the worker acknowledges a message when its run begins, and consumes no message until the run has
ended. Waiting messages stay in the queue, where other workers can take them. The row, not the message,
preserves a run.
"""

import logging
import os
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from celery.worker import state
from celery.worker.request import Request

from celery_worker.task import WorkerTask, fail
from training.worker.runner import Runner

logger = logging.getLogger(__name__)

QUEUE = "training"


class Train(WorkerTask):
    """Train and publish a model. The only argument is the training's id."""

    name = "training.train"

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner

    def check(self, arguments: list[Any]) -> None:
        """Accepts any list. `run_request` refuses a wrong id, so Flower shows a failed task."""

    def describe(self) -> dict[str, Any]:
        return {}

    def take(self, request: Request) -> None:
        """Begin a run, in Celery's loop. The prefetch is 1: no other message comes before the ack."""
        try:
            self.consumer.cancel_task_queue(QUEUE)
        except Exception:
            # The connection is lost, so the broker redelivers the message. The next connection must consume
            # again.
            queues = self.consumer.app.amqp.queues
            queues.select_add(queues[QUEUE])
            raise
        request.on_accepted(os.getpid(), time.monotonic())  # acknowledges the message
        self.consumer.pool.apply_async(self.run_request, (request,))

    def run_request(self, request: Request) -> None:
        """Run one request in the pool's thread, and send its outcome to Flower."""
        started = time.monotonic()
        ids = {"training_id": request.id, "request_id": request.request_dict.get("request_id")}
        logger.info("training taken", extra=ids)
        try:
            value = self.runner.run(_read_id(request.args))
            request.on_success((False, value, time.monotonic() - started))
        except Exception as error:
            fail(request, error)
        finally:
            self.consumer.hub.call_soon(self.consume_again)
            if state.should_stop is not None:  # the loop, which sends events, may have ended
                self.consumer.flush_events()

    def consume_again(self) -> None:
        """Consume from the queue again. Called in Celery's loop."""
        if state.should_stop is None and state.should_terminate is None:
            self.consumer.add_task_queue(QUEUE)


def _read_id(arguments: Sequence[Any]) -> UUID:
    try:
        (text,) = arguments
        return UUID(text)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the arguments {arguments!r} are not one training id") from error
