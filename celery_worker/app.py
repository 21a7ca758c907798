"""The Celery app of a worker."""

import gc
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.worker.control import Panel

from celery_worker import logs
from celery_worker.consumer import TaskQueue
from celery_worker.task import WorkerTask

logger = logging.getLogger(__name__)


def create_app(
    service: str, broker_url: str, prefetches: Mapping[str, int], threads: int, alive_file: Path | None
) -> Celery:
    """Build the app of a service and configure its logs. `add_task` adds its task.

    `prefetches`: for each queue, how many messages the worker holds. `service` is the name of the Python
    package, of the exchange and of the connection. `alive_file` is touched at each heartbeat.
    """
    logs.configure(service)
    app = Celery(service, broker=broker_url, set_as_current=True)
    app.conf.update(
        task_queues=[TaskQueue.build(name, prefetch, service) for name, prefetch in prefetches.items()],
        task_default_queue=service,
        task_create_missing_queues=False,
        worker_consumer="celery_worker.consumer:Consumer",
        worker_pool="threads",
        worker_concurrency=threads,
        worker_enable_prefetch_count_reduction=False,  # each queue sets its own prefetch
        worker_disable_rate_limits=True,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"client_properties": {"connection_name": service}},
    )
    app.events.dispatcher_cls = "celery_worker.consumer:Events"
    # Flower may query the worker. Celery's other commands are removed, except the harmless `heartbeat`.
    for name, command in Panel.meta.items():
        if command.type == "control" and name != "heartbeat":
            Panel.data.pop(name, None)
    signals.worker_ready.connect(_freeze_objects)
    if alive_file:
        signals.heartbeat_sent.connect(lambda **_: alive_file.touch(), weak=False)
    return app


def add_task(app: Celery, task: WorkerTask) -> None:
    """Register the worker's task. The log line "worker ready" has the fields of `task.describe`."""
    app.register_task(task)
    signals.worker_ready.connect(lambda **_: logger.info("worker ready", extra=task.describe()), weak=False)


def _freeze_objects(**_: Any) -> None:
    """Make garbage collections rare. Nearly all objects are freed without them.

    By default they took a tenth of the CPU time of a message, and paused the worker for up to 70 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
