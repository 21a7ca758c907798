"""The status of a worker (ok or silent), its removal, and its rates, all from its events."""

from typing import Any

import pytest

from backend.workers import Workers


def heartbeat(
    name: str = "inference@a", predictions: int = 0, batches: int = 0, **fields: Any
) -> dict[str, Any]:
    event = {"type": "worker-heartbeat", "hostname": name, "model": "m1", "device": "CPU", "fallback": ""}
    return event | {"timestamp": 0, "predictions": predictions, "batches": batches} | fields


def test_a_worker_is_ok_until_it_is_silent_for_ten_seconds() -> None:
    workers = Workers()
    workers.receive(heartbeat(), now=100)
    assert [worker.status for worker in workers.report_inference(now=109)] == ["ok"]
    assert [worker.status for worker in workers.report_inference(now=111)] == ["silent"]
    assert workers.report_inference(now=701) == []


def test_a_worker_that_goes_offline_is_removed_at_once() -> None:
    workers = Workers()
    workers.receive(heartbeat(), now=100)
    workers.receive({"type": "worker-offline", "hostname": "inference@a"}, now=101)
    assert workers.report_inference(now=101) == []


def test_rates_are_those_of_the_last_ten_seconds() -> None:
    workers = Workers()
    for second in range(0, 60, 2):
        busy = max(0, second - 40)  # idle for 40 seconds, then 100 predictions in 5 batches a second
        workers.receive(
            heartbeat(predictions=100 * busy, batches=5 * busy, timestamp=1e9 + second), now=second
        )
    (worker,) = workers.report_inference(now=58)
    assert worker.predictions_per_second == pytest.approx(100)
    assert worker.batches_per_second == pytest.approx(5)
    (silent,) = workers.report_inference(now=100)
    assert silent.predictions_per_second == 0


def test_a_restarted_worker_has_no_negative_rate() -> None:
    workers = Workers()
    workers.receive(heartbeat(predictions=5000, batches=100, timestamp=0), now=0)
    workers.receive(heartbeat(predictions=10, batches=1, model="m2", timestamp=4), now=4)
    workers.receive(heartbeat(predictions=30, batches=2, model="m2", timestamp=8), now=8)
    (worker,) = workers.report_inference(now=8)
    assert (worker.model, worker.predictions_per_second) == ("m2", 5)


def test_delayed_heartbeats_that_arrive_together_give_the_right_rate() -> None:
    workers = Workers()
    for second in range(0, 20, 2):
        workers.receive(heartbeat(predictions=10 * second, batches=second, timestamp=second), now=100)
    (worker,) = workers.report_inference(now=100)
    assert worker.predictions_per_second == pytest.approx(10)


def test_a_training_worker_is_recognized_by_its_name() -> None:
    workers = Workers()
    workers.receive({"type": "worker-heartbeat", "hostname": "training@a"}, now=100)
    workers.receive(heartbeat(), now=100)
    assert [worker.name for worker in workers.report_inference(now=100)] == ["inference@a"]
    assert [(w.name, w.status) for w in workers.report_training(now=100)] == [("training@a", "ok")]
    assert [worker.status for worker in workers.report_training(now=111)] == ["silent"]
    assert workers.report_training(now=701) == []
    workers.receive({"type": "worker-heartbeat", "hostname": "training@a"}, now=800)
    workers.receive({"type": "worker-offline", "hostname": "training@a"}, now=801)
    assert workers.report_training(now=801) == []


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"type": "worker-heartbeat", "hostname": "celery@other"},
        {
            "type": "worker-heartbeat",
            "hostname": "x",
            "model": 1,
            "device": "",
            "predictions": 0,
            "batches": 0,
        },
        {"type": "task-received", "hostname": "inference@a"},
        {"type": "worker-offline"},
    ],
)
def test_malformed_events_and_those_of_other_kinds_are_ignored(event: dict[str, Any]) -> None:
    workers = Workers()
    workers.receive(event)
    assert workers.report_inference() == []
