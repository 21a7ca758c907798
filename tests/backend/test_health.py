"""The health report: the status of each part, within a second."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import aio_pika
import pytest

from backend.errors import Unavailable
from backend.health import DEADLINE_SECONDS, Question
from backend.schemas.health import Container, ContainerState, Gpu
from backend.settings import Settings
from scripts.local.config import Config
from tests.backend.conftest import Api, Serve, without
from tests.backend.test_workers import heartbeat
from tests.conftest import eventually

Say = Callable[..., Awaitable[None]]


@pytest.fixture
async def say(servers: Config) -> AsyncGenerator[Say]:
    """Act as a worker: publish one of its events on the exchange of Celery events."""
    connection = await aio_pika.connect(servers.broker_url("worker"))
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("celeryev", ensure=False)

        async def publish(type: str, name: str = "inference@a", fallback: str = "") -> None:
            event = {"type": type, "hostname": name, "model": "m1", "device": "CPU", "fallback": fallback}
            body = json.dumps(event | {"timestamp": time.time(), "predictions": 0, "batches": 0}).encode()
            await exchange.publish(aio_pika.Message(body), type.replace("-", "."))

        yield publish


async def report(api: Api) -> tuple[int, dict[str, Any]]:
    answer = await api.client.get("/api/health")
    return answer.status_code, answer.json()


async def test_without_an_inference_worker_the_report_is_down(api: Api) -> None:
    status, health = await report(api)
    assert (status, health["status"]) == (503, "down")
    assert health["components"]["database"]["status"] == "ok"
    assert "no worker" in health["components"]["inference"]["detail"]


async def test_a_worker_with_a_fallback_degrades_the_report(api: Api, say: Say) -> None:
    async def degraded() -> Any:
        await say("worker-heartbeat", fallback="CUDA failed: no device")
        status, health = await report(api)
        return status == 200 and health["status"] == "degraded" and health["components"]["inference"]

    inference = await eventually(degraded)
    assert inference["status"] == "degraded"
    assert inference["detail"] == "inference@a: CUDA failed: no device"
    assert inference["workers"][0]["detail"] == "CUDA failed: no device"
    await say("worker-offline")


async def test_with_a_live_worker_the_report_is_ok_until_the_worker_leaves(api: Api, say: Say) -> None:
    async def healthy() -> bool:
        await say("worker-heartbeat")
        return (await report(api))[0] == 200

    await eventually(healthy)
    _, health = await report(api)
    assert health["status"] == "ok"
    inference = health["components"]["inference"]
    assert (inference["model"], inference["device"]) == ("m1", "CPU")
    assert inference["last_seen"] == inference["workers"][0]["last_seen"]
    depths = [(await api.services.broker.inspect(queue)).depth for queue in ("inference", "inference.bulk")]
    assert health["components"]["broker"]["queue_depth"] == sum(depths)
    assert health["components"]["broker"]["consumers"] == 0
    assert health["components"]["broker"]["latency_ms"] > 0
    assert health["components"]["database"]["latency_ms"] > 0
    assert health["components"]["containers"] == []
    assert "without Docker" in health["components"]["containers_unavailable"]
    assert bool(health["components"]["gpus"]) != bool(health["components"]["gpus_unavailable"])
    await say("worker-offline")

    async def down() -> bool:
        return (await report(api))[0] == 503

    await eventually(down)


async def test_the_report_counts_the_predictions_and_the_messages_of_both_queues(
    api: Api, cat: bytes
) -> None:
    async def counted() -> tuple[int, int]:
        parts = (await report(api))[1]["components"]
        return parts["inference"]["unfinished"], parts["broker"]["queue_depth"]

    unfinished, depth = await counted()
    await api.upload(cat)
    await api.upload(cat, cat, cat)

    async def more() -> bool:
        return await counted() == (unfinished + 4, depth + 2)

    await eventually(more)


async def test_a_training_worker_is_optional_but_degrades_the_report_when_silent(api: Api, say: Say) -> None:
    async def heard() -> bool:
        await say("worker-heartbeat")
        await say("worker-heartbeat", "training@a")
        return (await report(api))[1]["components"]["training"]["status"] == "ok"

    assert (await report(api))[1]["components"]["training"]["status"] == "down"
    await eventually(heard)
    workers = api.services.checks._workers
    workers.receive({"type": "worker-heartbeat", "hostname": "training@a"}, now=time.monotonic() - 11)

    async def missed() -> bool:
        await say("worker-heartbeat")
        status, health = await report(api)
        return (status, health["status"]) == (200, "degraded")

    await eventually(missed)
    await say("worker-offline", "training@a")

    async def well() -> bool:
        await say("worker-heartbeat")
        return (await report(api))[1]["status"] == "ok"

    await eventually(well)


async def answer_with(found: object) -> object:
    return found


def container(state: ContainerState = "running", health: str | None = "healthy") -> Container:
    return Container(
        name="cifar-db-1", service="db", state=state, health=health, started_at=None, restarts=0,
        cpu_percent=None, memory_bytes=None,
    )  # fmt: skip


def gpu(detail: str | None) -> Gpu:
    return Gpu(
        index=0, name="A GPU", memory_used_bytes=None, memory_total_bytes=None, utilization_percent=None,
        temperature_c=None, power_w=None, processes=None, mig_mode=None,
        mig_devices=[], detail=detail,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("containers", "gpus", "status"),
    [
        ([container(), container(health=None), container("exited", None)], [gpu(None)], "ok"),
        ([container("restarting", None)], [], "degraded"),
        ([container("dead", None)], [], "degraded"),
        ([container(), container(health="unhealthy")], [], "degraded"),
        ([container("exited", "unhealthy")], [], "ok"),  # the health from before it stopped
        ([], [gpu("it has fallen off the bus")], "degraded"),
    ],
)
async def test_a_failing_container_or_gpu_degrades_the_report_and_a_stopped_container_does_not(
    containers: list[Container],
    gpus: list[Gpu],
    status: str,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks = api.services.checks
    monkeypatch.setattr(checks, "_containers", Question(lambda: answer_with(containers)))
    monkeypatch.setattr(checks, "_gpus", Question(lambda: answer_with(gpus)))
    checks._workers.receive(heartbeat())
    code, health = await report(api)
    assert (code, health["status"]) == (200, status)


async def test_one_silent_worker_of_two_degrades_the_report(api: Api) -> None:
    workers = api.services.checks._workers
    workers.receive(heartbeat("inference@a"))
    workers.receive(heartbeat("inference@b"), now=time.monotonic() - 11)
    status, health = await report(api)
    assert (status, health["status"]) == (200, "degraded")
    assert "1 of 2 workers" in health["components"]["inference"]["detail"]


async def test_requests_within_a_second_share_a_report(api: Api) -> None:
    first, second = [await report(api) for _ in range(2)]
    assert first == second  # also the latencies, which a second report would measure again


async def test_a_part_that_hangs_is_asked_once_and_reported_in_time() -> None:
    asked = 0
    released = asyncio.Event()

    async def hang() -> str:
        nonlocal asked
        asked += 1
        await released.wait()
        return "late"

    question = Question(hang)
    for seconds in (DEADLINE_SECONDS, 0):  # the second caller gets the error at once
        started = time.monotonic()
        with pytest.raises(Unavailable, match="no answer for"):
            await question.answer()
        assert time.monotonic() - started < seconds + 0.3
    assert asked == 1
    released.set()

    async def answered() -> bool:
        try:
            return (await question.answer())[0] == "late"
        except Unavailable:
            return False

    await eventually(answered)


async def test_a_busy_backend_does_not_make_a_part_late() -> None:
    """The answer needs several turns of the event loop, and other work delays each turn."""
    busy = True

    async def work() -> None:
        while busy:
            time.sleep(DEADLINE_SECONDS / 3)  # noqa: ASYNC251
            await asyncio.sleep(0)

    async def answer_in_turns() -> str:
        for _ in range(2):
            await asyncio.sleep(0.001)
        return "well"

    working = asyncio.create_task(work())
    try:
        answer, milliseconds = await Question(answer_in_turns).answer()
    finally:
        busy = False
        await working
    assert answer == "well"
    assert milliseconds > DEADLINE_SECONDS * 1000


async def test_an_unexpected_error_of_a_part_does_not_break_the_report(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def surprise() -> None:
        raise KeyError("State")

    monkeypatch.setattr(api.services.checks, "_containers", Question(surprise))
    _, health = await report(api)
    assert health["components"]["database"]["status"] == "ok"
    assert "unexpected error (KeyError)" in health["components"]["containers_unavailable"]


async def test_health_answers_within_a_second_although_database_and_broker_are_unavailable(
    serve: Serve, settings: Settings
) -> None:
    api = await serve(without(settings, "database_url", "broker_url"))
    started = time.monotonic()
    status, health = await report(api)
    assert time.monotonic() - started < 1
    assert status == 503
    parts = health["components"]
    assert {parts[part]["status"] for part in ("database", "broker", "inference")} == {"down"}


async def test_the_probes_distinguish_live_from_ready(api: Api, serve: Serve, settings: Settings) -> None:
    assert (await api.client.get("/api/health/live")).status_code == 200
    assert (await api.client.get("/api/health/ready")).status_code == 200
    without_database = await serve(without(settings, "database_url"))
    assert (await without_database.client.get("/api/health/live")).status_code == 200
    assert (await without_database.client.get("/api/health/ready")).status_code == 503
