"""The metrics of an inference worker."""

import urllib.request
from uuid import uuid4

import pytest

from inference.metrics import Metrics
from inference.settings import Settings
from scripts.local.config import find_free_ports
from tests.inference.test_runner import POISON, ClaimedElsewhere, Rows, build_runner, run


def test_a_batch_is_counted_with_its_outcomes_its_size_and_the_time_in_the_queue() -> None:
    rows = Rows({uuid4(): bytes(3072), uuid4(): bytes(3072), uuid4(): POISON}, queue_ms=1500)
    runner = build_runner(rows)
    run(runner, list(rows.rows))
    read = runner.metrics.registry.get_sample_value
    assert read("inference_outcomes_total", {"status": "succeeded"}) == 2
    assert read("inference_outcomes_total", {"status": "failed"}) == 1
    assert (read("inference_batch_size_sum"), read("inference_batch_size_count")) == (3, 1)
    assert (read("inference_queue_seconds_sum"), read("inference_queue_seconds_count")) == (4.5, 3)
    assert read("inference_forward_seconds_count") == 1
    assert read("inference_model_info", {"version": "m1", "device": "cpu"}) == 1


def test_an_outcome_that_was_not_written_is_not_counted() -> None:
    good, late = uuid4(), uuid4()
    runner = build_runner(ClaimedElsewhere({good: bytes(3072), late: bytes(3072)}, {late}))
    run(runner, [good, late])
    read = runner.metrics.registry.get_sample_value
    assert read("inference_outcomes_total", {"status": "succeeded"}) == 1
    assert read("inference_queue_seconds_count") == 1
    assert (read("inference_batch_size_sum"), read("inference_forward_seconds_count")) == (2, 1)


def test_a_prediction_without_an_attempt_left_counts_as_failed() -> None:
    rows = Rows({})
    rows.exhausted = {uuid4()}
    runner = build_runner(rows)
    run(runner, list(rows.exhausted))
    read = runner.metrics.registry.get_sample_value
    assert read("inference_outcomes_total", {"status": "failed"}) == 1
    assert read("inference_batch_size_count") == 0


def test_metrics_are_served_at_the_address_and_have_only_the_latest_model() -> None:
    (port,) = find_free_ports(1)
    metrics = Metrics()
    metrics.model.info({"version": "m0", "device": "cpu"})
    metrics.model.info({"version": "m1", "device": "cpu"})
    server, thread = metrics.serve(f"127.0.0.1:{port}")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            body = answer.read()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert b'inference_model_info{device="cpu",version="m1"} 1.0' in body
    assert body.count(b"inference_model_info{") == 1


@pytest.mark.parametrize("address", ["", "127.0.0.1:9100", "0.0.0.0:9100", "[::]:9100"])
def test_an_address_is_a_host_and_a_port_or_nothing(address: str) -> None:
    required = {"database_url": "postgresql://x", "broker_url": "amqp://x"}
    assert Settings.model_validate(required | {"metrics_address": address}).metrics_address == address
    with pytest.raises(ValueError, match="metrics_address"):
        Settings.model_validate(required | {"metrics_address": f"{address} no port"})
