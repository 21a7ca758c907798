"""The metrics of a backend: requests, uploads, streams, unfinished predictions and GPUs."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from httpx_sse import aconnect_sse
from prometheus_client.parser import text_string_to_metric_families

from backend.settings import Settings
from tests.backend.conftest import Api, Serve
from tests.conftest import eventually


async def read(api: Api, figure: str, **labels: object) -> float | None:
    """One figure as Prometheus reads it; None if it is missing."""
    answer = await api.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    wanted = {key: str(value) for key, value in labels.items()}
    samples = [s for family in text_string_to_metric_families(answer.text) for s in family.samples]
    found = [sample.value for sample in samples if (sample.name, sample.labels) == (figure, wanted)]
    return found[0] if found else None


async def count(api: Api, route: str, method: str, status: int) -> float | None:
    return await read(api, "backend_requests_total", route=route, method=method, status=status)


async def test_requests_are_counted_by_route_method_and_status(api: Api, cat: bytes) -> None:
    place = (await api.upload(cat)).json()["urls"]["self"]
    await api.client.get(place)
    await api.client.get(place)
    await api.client.get("/api/predictions/00000000-0000-0000-0000-000000000000")
    assert await count(api, "/api/predict", "POST", 202) == 1
    assert await count(api, "/api/predictions/{id}", "GET", 200) == 2
    assert await count(api, "/api/predictions/{id}", "GET", 404) == 1
    labels = {"route": "/api/predictions/{id}", "method": "GET"}
    assert await read(api, "backend_request_seconds_count", **labels) == 3


async def test_requests_to_unknown_addresses_share_one_route(api: Api) -> None:
    await api.client.get("/api/a")
    await api.client.get("/b")
    assert await count(api, "unmatched", "GET", 404) == 2


async def test_a_request_with_an_unexpected_exception_is_counted(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.services.checks, "check_database", None)
    answer = await api.client.get("/api/health/ready")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert await count(api, "/api/health/ready", "GET", 500) == 1


async def test_accepted_images_are_counted_and_refusals_by_title(api: Api, cat: bytes) -> None:
    await api.upload(cat, b"no image", cat)
    await api.upload(b"no image")
    await api.upload(b"", b"no image")  # the refused files are counted, not the request
    await api.upload(*[cat] * 6)  # max_files is 5
    await api.upload(cat, **{"Idempotency-Key": "x" * 256})
    assert await read(api, "backend_images_accepted_total") == 2
    refused = "backend_refusals_total"
    assert await read(api, refused, reason="Not a supported image") == 3
    assert await read(api, refused, reason="Empty file") == 1
    assert await read(api, refused, reason="Too many files") == 1
    assert await read(api, refused, reason="Bad parameter") == 1
    assert await read(api, refused, reason="No file could be accepted") is None


async def test_an_open_stream_is_counted_until_it_ends(api: Api) -> None:
    async def open_streams(count: int) -> bool:
        return await read(api, "backend_stream_subscribers") == count

    assert await open_streams(0)
    async with asyncio.timeout(10), aconnect_sse(api.client, "GET", "/api/events"):
        await eventually(lambda: open_streams(1))
    await eventually(lambda: open_streams(0))


async def test_unfinished_predictions_and_used_connections_are_reported(api: Api, cat: bytes) -> None:
    await api.upload(cat)

    async def unfinished() -> bool:
        return await read(api, "backend_predictions_unfinished") == 1

    await eventually(unfinished)
    assert await read(api, "backend_relay_waiting") == 0
    assert await read(api, "backend_relay_republished") == 0
    assert await read(api, "backend_database_connections_in_use") in range(9)  # 0 to 8, the size of the pool


async def test_each_backend_counts_only_the_images_that_it_stored(
    serve: Serve, settings: Settings, cat: bytes
) -> None:
    one, other = await serve(settings), await serve(settings)
    await one.upload(cat)
    assert await read(one, "backend_images_accepted_total") == 1
    assert await read(other, "backend_images_accepted_total") == 0


async def test_figures_of_gpus_are_replaced_and_unknown_ones_left_out(api: Api) -> None:
    def gpu(index: int, power_w: float | None) -> Any:
        return SimpleNamespace(
            index=index,
            name="A GPU",
            memory_used_bytes=2**30,
            memory_total_bytes=2**36,
            utilization_percent=50,
            temperature_c=40,
            power_w=power_w,
        )

    def figure(name: str, index: int) -> float | None:
        labels = {"index": str(index), "name": "A GPU"}
        return api.services.metrics.registry.get_sample_value(f"backend_gpu_{name}", labels)

    api.services.metrics.set_gpus([gpu(0, 100.5), gpu(1, None)])
    assert figure("power_watts", 0) == 100.5
    assert figure("power_watts", 1) is None
    assert figure("memory_used_bytes", 1) == 2**30
    api.services.metrics.set_gpus([gpu(1, 90)])
    assert figure("power_watts", 0) is None
    assert figure("power_watts", 1) == 90


async def test_the_metrics_are_not_part_of_the_api(api: Api) -> None:
    assert (await api.client.get("/api/metrics")).status_code == 404
    assert "/metrics" not in (await api.client.get("/openapi.json")).json()["paths"]
