"""The worker's entry point: `celery -A inference.worker worker`.

Waits for a model that can be served, then builds the database, the task and the Celery app.
"""

import logging
from pathlib import Path

from celery import Celery, signals
from celery.worker.control import Panel

from inference import logs
from inference.classifier import Loader
from inference.consumer import INTERACTIVE, build_queues
from inference.metrics import Metrics
from inference.pipeline import STAGES
from inference.predictions import Predictions
from inference.registry import Registry
from inference.settings import Settings
from inference.tasks import Classify
from inference.watcher import Watcher

logger = logging.getLogger(__name__)

SECRETS = Path("/run/secrets")  # where Docker puts them, a file for each


def create_app(settings: Settings) -> Celery:
    """The Celery app with its one task; takes until there are a database and a model to serve."""
    logs.configure()
    logs.replace_celery_s()
    address = settings.database_url.get_secret_value()
    loader = Loader(settings.cpu_threads, settings.max_batch_size)
    watcher = Watcher(Registry(address), settings.models_path, loader)
    classifier = watcher.wait_for_model()  # nothing is consumed yet, so messages wait in the queue
    predictions = Predictions(address)
    app = Celery("inference", broker=settings.broker_url.get_secret_value(), set_as_current=True)
    app.conf.update(
        # The broker's definitions file declares everything; here it is only named.
        task_queues=build_queues(settings.max_batch_size),
        task_default_queue=INTERACTIVE,
        task_create_missing_queues=False,
        worker_consumer="inference.consumer:Consumer",
        worker_pool="threads",
        worker_concurrency=STAGES,
        worker_disable_rate_limits=True,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"client_properties": {"connection_name": "inference"}},
    )
    # Flower may ask a worker how it is, and tell it to do nothing but say so.
    for name, command in Panel.meta.items():
        if command.type == "control" and name != "heartbeat":
            Panel.data.pop(name, None)
    app.events.dispatcher_cls = "inference.consumer:Events"
    metrics = Metrics()
    if settings.metrics_address:
        metrics.serve(settings.metrics_address)
    task = Classify(classifier, predictions, metrics, settings.max_batch_size)
    app.register_task(task)
    signals.worker_ready.connect(lambda **_: logger.info("worker ready", extra=task.describe()), weak=False)
    signals.worker_init.connect(lambda **_: watcher.start(task.serve), weak=False)
    signals.worker_shutting_down.connect(lambda **_: watcher.stop(), weak=False)
    signals.worker_shutdown.connect(lambda **_: watcher.join(), weak=False)
    # While the database is away a batch waits for it; a worker that stops must not.
    signals.worker_shutting_down.connect(lambda **_: predictions.stop(), weak=False)
    signals.worker_shutdown.connect(lambda **_: predictions.close(), weak=False)
    if alive := settings.alive_file:
        signals.heartbeat_sent.connect(lambda **_: alive.touch(), weak=False)
    return app


app = create_app(Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None))  # pyright: ignore
