"""Builds the worker: the Celery app, its task, and the connection to the database."""

import threading
from collections.abc import Sequence

from celery import Celery, signals

from celery_worker.app import add_task, create_app
from training.worker.runner import Runner
from training.worker.runs import Runs
from training.worker.settings import Settings
from training.worker.task import QUEUE, Train


def build_app(settings: Settings, command: Sequence[str]) -> Celery:
    """Build the app with its task. A run's child process is `command` with the run's options."""
    broker_url = settings.broker_url.get_secret_value()
    app = create_app("training", broker_url, {QUEUE: 1}, 1, settings.alive_file)
    stopping = threading.Event()
    runs = Runs(settings.database_url.get_secret_value(), stopping)
    add_task(app, Train(Runner(settings, runs, command, stopping)))
    # A worker that shuts down hands its run back; Celery's pool waits for that.
    signals.worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)
    signals.worker_shutdown.connect(lambda **_: runs.close(), weak=False)
    return app
