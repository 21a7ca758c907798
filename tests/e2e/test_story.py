"""One request id is in the logs of backend and worker, and both serve metrics."""

from typing import Any

import httpx

from scripts.local.config import Config
from tests.conftest import eventually
from tests.e2e.conftest import read_log


async def test_one_request_id_is_on_the_log_lines_of_the_upload_and_its_outcome(
    system: Config, cat: bytes
) -> None:
    async with httpx.AsyncClient(base_url=system.address, timeout=30) as client:
        headers = {"X-Request-ID": "story-1", "Prefer": "wait=20"}
        answer = await client.post("/api/predict", files={"file": ("cat.jpg", cat)}, headers=headers)
    assert answer.status_code == 200, answer.text
    prediction = answer.json()

    async def worker_lines() -> Any:  # the worker logs an outcome after its commit
        return [line for line in read_log(system, "inference") if line.get("request_id") == "story-1"]

    (finished,) = await eventually(worker_lines)
    (accepted,) = [line for line in read_log(system, "backend") if line.get("request_id") == "story-1"]
    assert accepted["prediction_ids"] == [finished["prediction_id"]] == [prediction["id"]]
    assert (finished["status"], finished["label"]) == ("succeeded", prediction["prediction"])
    assert finished["queue_ms"] == prediction["metrics"]["queue_ms"]
    assert finished["predict_ms"] == prediction["metrics"]["predict_ms"]


async def test_both_services_serve_metrics_and_the_proxy_hides_them(system: Config) -> None:
    async with httpx.AsyncClient() as client:
        backend = await client.get(f"http://127.0.0.1:{system.ports['backend']}/metrics")
        worker = await client.get(f"http://127.0.0.1:{system.ports['inference_metrics']}/metrics")
        public = await client.get(f"{system.address}/metrics")
    assert "backend_predictions_unfinished" in backend.text
    assert "inference_model_info" in worker.text
    assert "backend_predictions_unfinished" not in public.text
