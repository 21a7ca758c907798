"""The worker's entry point: `celery -A inference.worker worker`.

Builds the one classifier, the one database and the Celery app, and says every few seconds that the
worker is alive.
"""

import logging
import threading
from contextlib import suppress
from typing import Any

import torch
from celery import Celery, signals
from kombu.entity import Exchange, Queue

from inference import logs
from inference.classifier import choose_device, load_active
from inference.metrics import Metrics
from inference.outcomes import Database, Stopped
from inference.settings import Settings
from inference.tasks import Classify

logger = logging.getLogger(__name__)

QUEUE = "inference"
PRESENCE_SECONDS = 5.0


def create_app(settings: Settings) -> Celery:
    """The Celery app with its one task. Raises ArtifactError when there is no model to serve."""
    logs.configure()
    logs.replace_celery_s()
    torch.set_num_threads(settings.cpu_threads)
    database = Database(settings.database_url.get_secret_value())
    classifier = load_active(settings.models_path, choose_device())
    app = Celery("inference", broker=settings.broker_url.get_secret_value(), set_as_current=True)
    app.conf.update(
        # The broker's definitions file declares everything; here it is only named.
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
        worker_consumer="inference.batching:Consumer",
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=2 * settings.max_batch_size,
        worker_disable_rate_limits=True,
        worker_enable_remote_control=False,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"client_properties": {"connection_name": "inference"}},
    )
    app.events.dispatcher_cls = "inference.batching:UndeclaredEvents"
    metrics = Metrics(classifier.version, classifier.device_name)
    if settings.metrics_address:
        metrics.serve(settings.metrics_address)
    app.register_task(Classify(classifier, database, metrics, settings.max_batch_size))
    Presence(database, classifier.version, classifier.device_name).follow_worker()
    return app


class Presence(threading.Thread):
    """Keeps the worker's row in the table `workers` fresh, from the worker's start to its stop."""

    def __init__(self, database: Database, model: str, device: str) -> None:
        super().__init__(name="presence")
        self._database = database
        self._model = model
        self._device = device
        self._node = ""
        self._stopping = threading.Event()

    def follow_worker(self) -> None:
        signals.worker_ready.connect(self._on_ready, weak=False)
        signals.worker_shutting_down.connect(self._on_stopping, weak=False)
        signals.worker_shutdown.connect(self._on_stopped, weak=False)

    def run(self) -> None:
        with suppress(Stopped):
            while True:
                self._database.announce(self._node, self._model, self._device)
                if self._stopping.wait(PRESENCE_SECONDS):
                    self._database.leave(self._node)
                    return

    def _on_ready(self, sender: Any, **_: Any) -> None:
        self._node = sender.hostname
        fields = {"node": self._node, "model": self._model, "device": self._device}
        logger.info("worker ready", extra=fields)
        self.start()

    def _on_stopping(self, **_: Any) -> None:
        self._stopping.set()
        self._database.stop()

    def _on_stopped(self, **_: Any) -> None:
        self._stopping.set()
        if self.is_alive():
            self.join(PRESENCE_SECONDS)
        self._database.close()


app = create_app(Settings())  # pyright: ignore[reportCallIssue]
