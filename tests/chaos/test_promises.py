"""What the service promises, with things killed."""

import os
import signal
import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import aio_pika
import httpx
import psutil
import pytest

from scripts.local import stack
from scripts.local.config import Config, port_is_free
from tests.conftest import SAMPLES, eventually

IMAGES = [sample.read_bytes() for sample in sorted(SAMPLES.glob("*.jpg"))] * 10


PORT_OF = {"backend": "backend", "rabbitmq": "amqp"}


async def is_free(port: int) -> bool:
    return port_is_free(port)


def pid_of(system: Config, name: str) -> int:
    (found,) = [process for process in stack.processes(system) if process["name"] == name]
    return found["pid"]


async def upload(client: httpx.AsyncClient, **headers: str) -> list[dict[str, Any]]:
    files = [("file", (f"{number}.jpg", image)) for number, image in enumerate(IMAGES)]
    answer = await client.post("/api/predict", files=files, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()["predictions"]


async def finished(client: httpx.AsyncClient, ids: list[str]) -> list[dict[str, Any]] | None:
    predictions = [(await client.get(f"/api/predictions/{id}")).json() for id in ids]
    terminal = all(prediction["status"] in ("succeeded", "failed") for prediction in predictions)
    return predictions if terminal else None


@pytest.fixture
async def client(system: Config) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=system.address, timeout=60) as client:
        yield client


@pytest.mark.parametrize("victim", ["inference", "backend", "rabbitmq"])
async def test_no_accepted_upload_is_lost_when_a_process_is_killed(
    victim: str, system: Config, client: httpx.AsyncClient
) -> None:
    accepted = [prediction["id"] for _ in range(3) for prediction in await upload(client)]
    os.kill(pid_of(system, victim), signal.SIGKILL)
    if port := system.ports.get(PORT_OF.get(victim, "")):
        await eventually(partial(is_free, port), 10)  # what was killed is what served

    async def all_finished() -> Any:
        try:
            return await finished(client, accepted)
        except (httpx.HTTPError, KeyError, ValueError):
            return None

    predictions = await eventually(all_finished, 90)
    assert [prediction["status"] for prediction in predictions] == ["succeeded"] * len(accepted)

    async def healthy() -> bool:
        return stack.fetch_health(system).get("status") == "ok"

    await eventually(healthy, 60)


async def test_uploads_that_come_together_are_served_in_batches_and_flower_shows_them_all(
    system: Config, client: httpx.AsyncClient
) -> None:
    predictions = await upload(client, Prefer="wait=60")
    assert {prediction["status"] for prediction in predictions} == {"succeeded"}
    sizes = [prediction["metrics"]["batch_size"] for prediction in predictions]
    assert sum(sizes) / len(sizes) > 4
    for prediction in predictions:
        probabilities = [row["probability"] for row in prediction["probabilities"]]
        assert len(probabilities) == 10
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
    ids = {prediction["id"] for prediction in predictions}

    async def shown() -> bool:
        login = ("monitor", system.secrets["monitor"])
        tasks = (await client.get("/flower/api/tasks", params={"limit": 10_000}, auth=login)).json()
        seen = {id for id, task in tasks.items() if task["state"] == "SUCCESS" and task["runtime"] > 0}
        return ids <= seen

    await eventually(shown)


@pytest.mark.parametrize(
    ("headers", "body", "content_type"),
    [
        ({"task": "inference.classify"}, b'[["x"], {}, {}]', "application/json"),
        ({"task": "inference.classify", "id": "a"}, b"{not json", "application/json"),
        ({"task": "inference.classify", "id": "a"}, b'{"args": []}', "application/json"),
        ({"task": "inference.classify", "id": "a"}, b"[1, 2]", "application/json"),
        ({"task": "inference.classify", "id": "a"}, b"hello", None),
        ({"task": "inference.classify", "id": "a"}, b"\x80\x04N.", "application/x-python-serialize"),
        ({"task": "no.such.task", "id": "a"}, b"[[], {}, {}]", "application/json"),
        ({}, b"hello", "text/plain"),
    ],
    ids=["no id", "broken json", "a dict", "two items", "no type", "pickle", "unknown task", "no headers"],
)
async def test_a_malformed_message_goes_to_the_dead_letters_and_the_worker_lives(
    headers: dict[str, Any], body: bytes, content_type: str | None, system: Config, client: httpx.AsyncClient
) -> None:
    before = pid_of(system, "inference")
    connection = await aio_pika.connect(system.broker_url("backend"))
    async with connection:
        channel = await connection.channel()
        dead = await channel.declare_queue("inference.dead", passive=True)
        count = dead.declaration_result.message_count or 0
        exchange = await channel.get_exchange("inference", ensure=False)
        message = aio_pika.Message(body, headers=headers, content_type=content_type)
        await exchange.publish(message, "inference")

        async def dead_lettered() -> bool:
            found = await channel.declare_queue("inference.dead", passive=True)
            return found.declaration_result.message_count == count + 1

        await eventually(dead_lettered)
    answer = await client.post("/api/predict", files={"file": IMAGES[0]}, headers={"Prefer": "wait=20"})
    assert answer.json()["status"] == "succeeded"
    assert pid_of(system, "inference") == before


async def test_flower_shows_a_prediction_from_its_publication_on(
    system: Config, client: httpx.AsyncClient
) -> None:
    login = ("monitor", system.secrets["monitor"])

    async def shown(id: str, state: str) -> bool:
        answer = await client.get(f"/flower/api/task/info/{id}", auth=login)
        return answer.status_code == 200 and answer.json()["state"] == state

    worker = psutil.Process(pid_of(system, "inference"))
    worker.suspend()
    try:
        id = (await client.post("/api/predict", files={"file": IMAGES[0]})).json()["id"]
        await eventually(partial(shown, id, "PENDING"))
    finally:
        worker.resume()
    await eventually(partial(shown, id, "SUCCESS"))


@pytest.mark.parametrize(("victim", "part"), [("postgres", "database"), ("rabbitmq", "broker")])
async def test_health_answers_in_time_while_a_server_hangs_and_recovers(
    victim: str, part: str, system: Config, client: httpx.AsyncClient
) -> None:
    async def reported() -> str:
        started = time.monotonic()
        health = (await client.get("/api/health")).json()
        assert time.monotonic() - started < 1
        return health["components"][part]["status"]

    async def is_down() -> bool:
        return await reported() == "down"

    async def is_ok() -> bool:
        return stack.fetch_health(system).get("status") == "ok"

    await eventually(is_ok, 30)
    processes = [psutil.Process(pid_of(system, victim))]
    processes += processes[0].children(recursive=True)
    try:
        for process in processes:
            process.suspend()
        await eventually(is_down)
        for _ in range(3):
            assert await reported() == "down"
    finally:
        for process in processes:
            process.resume()
    await eventually(is_ok, 30)


async def test_a_stopped_worker_finishes_what_it_runs_and_says_goodbye(
    system: Config, client: httpx.AsyncClient
) -> None:
    accepted = [prediction["id"] for prediction in await upload(client)]
    os.kill(pid_of(system, "inference"), signal.SIGTERM)  # supervisord starts another

    async def all_finished() -> Any:
        return await finished(client, accepted)

    predictions = await eventually(all_finished, 60)
    assert {prediction["status"] for prediction in predictions} == {"succeeded"}
