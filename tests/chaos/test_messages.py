"""Task messages in the whole system: many, malformed and waiting ones, and what Flower shows of them."""

from functools import partial
from typing import Any

import aio_pika
import httpx
import psutil
import pytest

from scripts.local.config import Config
from tests.chaos.conftest import IMAGES, upload
from tests.conftest import eventually, pid_of


async def is_heard_by_flower(system: Config, client: httpx.AsyncClient) -> bool:
    """Flower, which may have just started, has shown a prediction."""
    answer = await client.post("/api/predict", files={"file": IMAGES[0]}, headers={"Prefer": "wait=20"})
    login = ("monitor", system.secrets["monitor"])
    tasks = await client.get("/flower/api/tasks", params={"limit": 10_000}, auth=login)
    return answer.status_code == 200 and tasks.status_code == 200 and len(tasks.json()) > 0


async def test_uploads_that_come_together_are_served_in_batches_and_flower_shows_them_all(
    system: Config, client: httpx.AsyncClient
) -> None:
    await eventually(partial(is_heard_by_flower, system, client), 30)
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
