"""A client of the whole system, and a stand-in for the backend."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import httpx
import pytest

from scripts.local.config import Config
from tests.chaos.fake_backend import BULK, INTERACTIVE, Backend
from tests.conftest import SAMPLES

IMAGES = [sample.read_bytes() for sample in sorted(SAMPLES.glob("*.jpg"))] * 10


async def upload(client: httpx.AsyncClient, count: int = len(IMAGES), **headers: str) -> list[dict[str, Any]]:
    files = [("file", (f"{number}.jpg", image)) for number, image in enumerate(IMAGES[:count])]
    answer = await client.post("/api/predict", files=files, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()["predictions"]


async def upload_and_look_in_flower(system: Config, client: httpx.AsyncClient) -> bool:
    """Upload an image, and return whether Flower shows a task.

    A Flower that has just started shows no earlier task.
    """
    answer = await client.post("/api/predict", files={"file": IMAGES[0]}, headers={"Prefer": "wait=20"})
    return answer.status_code == 200 and len(await read_flower_tasks(system, client)) > 0


async def read_flower_tasks(system: Config, client: httpx.AsyncClient) -> dict[str, Any]:
    login = ("monitor", system.secrets["monitor"])
    answer = await client.get("/flower/api/tasks", params={"limit": 10_000}, auth=login)
    return answer.json() if answer.status_code == 200 else {}


@pytest.fixture
async def client(system: Config) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=system.address, timeout=60) as client:
        yield client


@pytest.fixture
async def backend(servers: Config, database: asyncpg.Connection) -> AsyncGenerator[Backend]:
    await purge(servers)  # other tests leave messages, which would share batches with those of this test
    async with await aio_pika.connect(servers.broker_url("backend")) as broker:
        channel = await broker.channel()
        yield Backend(database, channel)
    await purge(servers)


async def purge(servers: Config) -> None:
    # RabbitMQ lets a user purge the queues that the user may read.
    async with await aio_pika.connect(servers.broker_url("worker")) as broker:
        channel = await broker.channel()
        for name in (INTERACTIVE, BULK):
            await (await channel.get_queue(name, ensure=False)).purge()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"
