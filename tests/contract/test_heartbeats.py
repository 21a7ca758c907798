"""The backend reads the heartbeats of both workers, with the fields that the inference worker's task adds."""

import json
from typing import Any

import pytest
from celery import Celery
from celery.events import EventDispatcher

from backend.workers import Workers
from celery_worker.consumer import Events
from celery_worker.task import WorkerTask
from inference.metrics import Metrics
from inference.runner import BatchRunner
from inference.task import Classify
from training.worker.task import Train

NOTHING: Any = None  # for parts that a heartbeat does not need


class Model:
    version = "model-1"
    device_name = "CPU"
    fallback = "int8 failed; float32 is used"


@pytest.fixture
def workers() -> Workers:
    return Workers()


def make_heartbeat(name: str, task: WorkerTask, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The heartbeat of a worker with this task, as the backend receives it."""
    sent: list[Any] = []
    monkeypatch.setattr(EventDispatcher, "_publish", lambda _self, event, *_, **__: sent.append(event))
    app = Celery("contract", broker="memory://", set_as_current=False)
    app.register_task(task)
    with app.connection_for_write() as connection:
        Events(connection, hostname=name, app=app).send("worker-heartbeat", freq=2)
    (event,) = sent
    return json.loads(json.dumps(event))


def test_the_backend_reads_the_heartbeat_of_an_inference_worker(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = Model()
    task = Classify(BatchRunner(model, NOTHING, Metrics()), max_batch_size=8)
    now = 100.0
    workers.receive(make_heartbeat("inference@a", task, monkeypatch), now)
    task.runner.finished, task.batches = 50, 20
    later = make_heartbeat("inference@a", task, monkeypatch)
    workers.receive(later | {"timestamp": later["timestamp"] + 5}, now)
    (worker,) = workers.report_inference(now)
    assert (worker.name, worker.status) == ("inference@a", "ok")
    assert (worker.model, worker.device, worker.detail) == (Model.version, Model.device_name, Model.fallback)
    assert worker.predictions_per_second == pytest.approx(10, rel=0.1)
    assert worker.batches_per_second == pytest.approx(4, rel=0.1)


def test_the_backend_reads_the_heartbeat_of_a_training_worker(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.receive(make_heartbeat("training@a", Train(NOTHING), monkeypatch), 100.0)
    (worker,) = workers.report_training(100.0)
    assert (worker.name, worker.status) == ("training@a", "ok")
    assert workers.report_inference(100.0) == []
