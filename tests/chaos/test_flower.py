"""Flower shows each prediction in one task, as soon as a worker has received the message."""

import ast
import math
from collections import Counter
from functools import partial

import asyncpg
import httpx
import psutil

from scripts.local.config import Config
from tests.chaos.conftest import IMAGES, read_flower_tasks, upload, upload_and_look_in_flower
from tests.conftest import eventually, pid_of


async def test_each_prediction_is_in_one_task_which_has_the_id_of_its_first_prediction(
    system: Config, client: httpx.AsyncClient
) -> None:
    await eventually(partial(upload_and_look_in_flower, system, client), 30)
    ids = {prediction["id"] for prediction in await upload(client, Prefer="wait=60")}

    async def shown() -> bool:
        tasks = {
            id: ast.literal_eval(task["args"])[0]
            for id, task in (await read_flower_tasks(system, client)).items()
            if task["state"] == "SUCCESS" and task["name"] == "inference.classify"
        }
        times = Counter(id for group in tasks.values() for id in group)
        ours = [group for group in tasks.values() if ids.issuperset(group)]
        assert all(id == group[0] for id, group in tasks.items())
        assert all(times[id] <= 1 for id in ids)
        # A message, and so a task, has up to 64 predictions.
        return all(times[id] for id in ids) and len(ours) == math.ceil(len(ids) / 64)

    await eventually(shown)


async def test_a_lone_prediction_is_shown_under_its_id_once_it_is_received(
    system: Config, client: httpx.AsyncClient
) -> None:
    await eventually(partial(upload_and_look_in_flower, system, client), 30)

    async def shown(id: str, states: set[str]) -> bool:
        task = (await read_flower_tasks(system, client)).get(id)
        return task is not None and task["state"] in states

    worker = psutil.Process(pid_of(system, "inference"))
    database = await asyncpg.connect(system.database_url("cifar"))
    worker.suspend()
    try:
        id = (await client.post("/api/predict", files={"file": IMAGES[0]})).json()["id"]
        async with database.transaction():
            # The worker cannot finish the prediction while the table is locked.
            await database.execute("LOCK TABLE predictions")
            worker.resume()
            await eventually(partial(shown, id, {"RECEIVED", "STARTED"}))
    finally:
        worker.resume()
        await database.close()
    await eventually(partial(shown, id, {"SUCCESS"}))


async def test_flower_shows_a_lone_prediction_under_its_id_with_label_and_confidence(
    system: Config, client: httpx.AsyncClient
) -> None:
    await eventually(partial(upload_and_look_in_flower, system, client), 30)
    answer = await client.post("/api/predict", files={"file": IMAGES[0]}, headers={"Prefer": "wait=20"})
    prediction = answer.json()

    async def is_shown() -> bool:
        task = (await read_flower_tasks(system, client)).get(prediction["id"])
        expected = f"{prediction['prediction']} {prediction['confidence']:.1%}"
        return task is not None and task["state"] == "SUCCESS" and task["result"].strip("'") == expected

    await eventually(is_shown)
