"""Health tells the truth, part by part, within a second."""

import time
from datetime import timedelta
from typing import Any

import asyncpg

from backend.settings import Settings
from tests.backend.conftest import Api, Serve
from tests.conftest import eventually

ANNOUNCE = """INSERT INTO workers (name, model, device, last_seen)
              VALUES ($1, 'm1', 'CPU', now() - $2::interval)"""


async def report(api: Api) -> tuple[int, dict[str, Any]]:
    answer = await api.client.get("/api/health")
    return answer.status_code, answer.json()


async def test_without_a_worker_predictions_cannot_be_served(api: Api) -> None:
    status, health = await report(api)
    assert (status, health["status"]) == (503, "down")
    assert health["components"]["database"]["status"] == "ok"
    assert "no worker" in health["components"]["inference"]["detail"]


async def test_with_a_live_worker_all_is_well(api: Api, database: asyncpg.Connection) -> None:
    await database.execute(ANNOUNCE, "inference@a", timedelta(0))

    async def healthy() -> bool:
        return (await report(api))[0] == 200

    await eventually(healthy)
    _, health = await report(api)
    assert health["status"] == "ok"
    inference = health["components"]["inference"]
    assert (inference["model"], inference["device"]) == ("m1", "CPU")
    assert health["components"]["broker"]["consumers"] == 0
    assert health["components"]["database"]["latency_ms"] > 0


async def test_a_silent_worker_beside_a_live_one_is_a_degradation(
    api: Api, database: asyncpg.Connection
) -> None:
    await database.execute(ANNOUNCE, "inference@a", timedelta(0))
    await database.execute(ANNOUNCE, "inference@b", timedelta(seconds=20))

    async def degraded() -> bool:
        return (await report(api))[1]["status"] == "degraded"

    await eventually(degraded)
    assert (await report(api))[0] == 200


async def test_with_everything_away_health_still_answers_within_a_second(
    serve: Serve, settings: Settings
) -> None:
    url = type(settings.database_url)
    api = await serve(
        settings.model_copy(
            update={
                "database_url": url("postgresql://x:x@127.0.0.1:1/x"),
                "broker_url": url("amqp://x:x@127.0.0.1:1/x"),
            }
        )
    )
    started = time.monotonic()
    status, health = await report(api)
    assert time.monotonic() - started < 1.5
    assert status == 503
    assert {part["status"] for part in health["components"].values()} == {"down"}


async def test_the_probes_tell_living_from_ready(api: Api, serve: Serve, settings: Settings) -> None:
    assert (await api.client.get("/api/health/live")).status_code == 200
    assert (await api.client.get("/api/health/ready")).status_code == 200
    gone = settings.model_copy(
        update={"database_url": type(settings.database_url)("postgresql://x:x@127.0.0.1:1/x")}
    )
    blind = await serve(gone)
    assert (await blind.client.get("/api/health/live")).status_code == 200
    assert (await blind.client.get("/api/health/ready")).status_code == 503
