"""Task messages in the whole system: batches, tasks in Flower, and malformed messages."""

import json
import re
from functools import partial
from typing import Any
from uuid import uuid4

import aio_pika
import httpx
import pytest

from scripts.local.config import Config
from tests.chaos.conftest import IMAGES, read_flower_tasks, upload, upload_and_look_in_flower
from tests.conftest import eventually, pid_of


async def test_the_files_of_one_request_run_in_batches_and_flower_shows_them_all(
    system: Config, client: httpx.AsyncClient
) -> None:
    await eventually(partial(upload_and_look_in_flower, system, client), 30)
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
        """Each message is one task, with the id of its first prediction. The task's result says how many
        predictions succeeded. For a single prediction it is the label and the confidence: `cat 97.1%`.
        """
        tasks = await read_flower_tasks(system, client)
        matches = [
            re.search(r"(\d+) predictions: \1 succeeded$|%$", task["result"].strip("'"))
            for id, task in tasks.items()
            if id in ids and task["state"] == "SUCCESS" and task["runtime"] > 0
        ]
        return sum(int(found[1] or 1) for found in matches if found) == len(ids)

    await eventually(shown)


@pytest.mark.parametrize(
    ("headers", "body", "content_type"),
    [
        ({"task": "inference.classify"}, b'[[["x"]], {}, {}]', "application/json"),
        ({"task": "inference.classify", "id": "a"}, b"{not json", "application/json"),
        ({"task": "inference.classify", "id": "a"}, b'{"args": []}', "application/json"),
        ({"task": "inference.classify", "id": "a"}, b"[1, 2]", "application/json"),
        ({"task": "inference.classify", "id": "a"}, b"hello", None),
        ({"task": "inference.classify", "id": "a"}, b"\x80\x04N.", "application/x-python-serialize"),
        ({"task": "no.such.task", "id": "a"}, b"[[], {}, {}]", "application/json"),
        ({}, b"hello", "text/plain"),
        ({"task": "inference.classify", "id": "a"}, b'[["x"], {}, {}]', "application/json"),
        ({"task": "inference.classify", "id": "a"}, b"[[[]], {}, {}]", "application/json"),
        (
            {"task": "inference.classify", "id": "a"},
            json.dumps([[["x"] * 1001], {}, {}]).encode(),
            "application/json",
        ),
    ],
    ids=[
        *("no id", "broken json", "a dict", "two items", "no type", "pickle", "unknown task", "no headers"),
        *("not a list of ids", "no ids", "1,001 ids"),
    ],
)
@pytest.mark.parametrize("queue", ["inference", "inference.bulk"])
async def test_a_malformed_message_is_dead_lettered_and_the_worker_goes_on(
    headers: dict[str, Any],
    body: bytes,
    content_type: str | None,
    queue: str,
    system: Config,
    client: httpx.AsyncClient,
) -> None:
    before = pid_of(system, "inference")
    connection = await aio_pika.connect(system.broker_url("backend"))
    async with connection:
        channel = await connection.channel()
        dead = await channel.declare_queue("inference.dead", passive=True)
        count = dead.declaration_result.message_count or 0
        exchange = await channel.get_exchange("inference", ensure=False)
        message = aio_pika.Message(body, headers=headers, content_type=content_type)
        await exchange.publish(message, queue)

        async def dead_lettered() -> bool:
            found = await channel.declare_queue("inference.dead", passive=True)
            return found.declaration_result.message_count == count + 1

        await eventually(dead_lettered)
    answer = await client.post("/api/predict", files={"file": IMAGES[0]}, headers={"Prefer": "wait=20"})
    assert answer.json()["status"] == "succeeded"
    assert pid_of(system, "inference") == before


@pytest.mark.parametrize("ids", [["x"], [None], [["x"]], [{"id": 1}]], ids=str)
async def test_a_message_of_ids_that_are_not_uuids_is_a_failed_task_and_the_worker_goes_on(
    ids: list[Any], system: Config, client: httpx.AsyncClient
) -> None:
    await eventually(partial(upload_and_look_in_flower, system, client), 30)
    before = pid_of(system, "inference")
    task = str(uuid4())
    connection = await aio_pika.connect(system.broker_url("backend"))
    async with connection:
        exchange = await (await connection.channel()).get_exchange("inference", ensure=False)
        body = json.dumps([[ids], {}, {}]).encode()
        headers: dict[str, Any] = {"task": "inference.classify", "id": task}
        await exchange.publish(
            aio_pika.Message(body, headers=headers, content_type="application/json"), "inference"
        )

    async def is_shown_as_failed() -> bool:
        tasks = await read_flower_tasks(system, client)
        return task in tasks and tasks[task]["state"] == "FAILURE"

    await eventually(is_shown_as_failed)
    answer = await client.post("/api/predict", files={"file": IMAGES[0]}, headers={"Prefer": "wait=20"})
    assert answer.json()["status"] == "succeeded"
    assert pid_of(system, "inference") == before
