"""The worker's Celery app and its one task, `training.train`."""

import logging
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from celery import Celery, Task, signals
from celery.worker.control import Panel
from kombu.entity import Exchange, Queue

from training.worker import logs
from training.worker.consumer import QUEUE
from training.worker.runner import Runner
from training.worker.runs import Runs
from training.worker.settings import Settings

logger = logging.getLogger(__name__)


class Train(Task):
    """Train and publish a model. The only argument is the training's id."""

    name = "training.train"
    Strategy = "training.worker.consumer:start"
    ignore_result = True

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner

    def run(self, *args: Any) -> str:
        return self.runner.run(_parse_id(args))


def create_app(settings: Settings, command: Sequence[str]) -> Celery:
    """Build the Celery app. A run's child process is `command` with the run's options."""
    logs.configure()
    logs.replace_celery_s()
    stopping = threading.Event()
    runs = Runs(settings.database_url.get_secret_value(), stopping)
    app = Celery("training", broker=settings.broker_url.get_secret_value(), set_as_current=True)
    app.conf.update(
        # The broker's definitions file declares exchange and queue. The worker only names them.
        task_queues=[
            Queue(
                QUEUE,
                Exchange(QUEUE, no_declare=True),
                routing_key=QUEUE,
                no_declare=True,
                queue_arguments={"x-queue-type": "quorum"},
            )
        ],
        task_default_queue=QUEUE,
        task_create_missing_queues=False,
        worker_consumer="training.worker.consumer:Consumer",
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,
        worker_disable_rate_limits=True,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"client_properties": {"connection_name": "training"}},
    )
    # Flower may inspect the worker. Of the commands that change a worker it may send only `heartbeat`.
    for name, control in Panel.meta.items():
        if control.type == "control" and name != "heartbeat":
            Panel.data.pop(name, None)
    app.events.dispatcher_cls = "training.worker.consumer:Events"
    app.register_task(Train(Runner(settings, runs, command, stopping)))
    signals.worker_ready.connect(lambda **_: logger.info("worker ready"), weak=False)
    # A worker that shuts down hands its run back; Celery's pool waits for that.
    signals.worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)
    signals.worker_shutdown.connect(lambda **_: runs.close(), weak=False)
    if alive := settings.alive_file:
        signals.heartbeat_sent.connect(lambda **_: alive.touch(), weak=False)
    return app


def _parse_id(arguments: Sequence[Any]) -> UUID:
    try:
        (text,) = arguments
        return UUID(text)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the arguments {arguments!r} are not one training id") from error
