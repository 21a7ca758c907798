"""A client of the whole system."""

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from scripts.local.config import Config
from tests.conftest import SAMPLES

IMAGES = [sample.read_bytes() for sample in sorted(SAMPLES.glob("*.jpg"))] * 10


async def upload(client: httpx.AsyncClient, count: int = len(IMAGES), **headers: str) -> list[dict[str, Any]]:
    files = [("file", (f"{number}.jpg", image)) for number, image in enumerate(IMAGES[:count])]
    answer = await client.post("/api/predict", files=files, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()["predictions"]


@pytest.fixture
async def client(system: Config) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=system.address, timeout=60) as client:
        yield client
