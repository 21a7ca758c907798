"""The worker's entry point: `celery -A inference.main worker`."""

import threading
from pathlib import Path

from celery import Celery, signals

from celery_worker.app import add_task, create_app
from inference.classifier import Loader
from inference.metrics import Metrics
from inference.predictions import Predictions
from inference.registry import Registry
from inference.runner import BatchRunner
from inference.settings import Settings
from inference.task import STAGES, Classify, count_prefetches
from inference.watcher import Watcher

SECRETS = Path("/run/secrets")  # Docker mounts each secret as a file here


def build_app(settings: Settings) -> Celery:
    """Build the app with its task. Returns once a model can be served."""
    app = create_app(
        "inference",
        settings.broker_url.get_secret_value(),
        count_prefetches(settings.max_batch_size),
        STAGES,
        settings.alive_file,
    )
    database_url = settings.database_url.get_secret_value()
    loader = Loader(settings.cpu_threads, settings.max_batch_size)
    stopping = threading.Event()
    watcher = Watcher(Registry(database_url), settings.models_path, loader, stopping)
    classifier = watcher.wait_for_model()  # meanwhile messages wait in the queues
    predictions = Predictions(database_url, stopping)
    metrics = Metrics()
    if settings.metrics_address:
        metrics.serve(settings.metrics_address)
    runner = BatchRunner(classifier, predictions, metrics)
    add_task(app, Classify(runner, settings.max_batch_size))
    signals.worker_init.connect(lambda **_: watcher.start(runner.serve), weak=False)
    # A batch that waits for the database must not delay a shutdown.
    signals.worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)
    signals.worker_shutdown.connect(lambda **_: watcher.join(), weak=False)
    signals.worker_shutdown.connect(lambda **_: predictions.close(), weak=False)
    return app


app = build_app(Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None))  # pyright: ignore
