"""Flower behind its prefix: every linked page opens, and it cannot send commands."""

import re
from collections.abc import AsyncGenerator

import httpx
import pytest
from playwright.async_api import Page

from scripts.local.config import Config
from tests.conftest import SAMPLES, eventually

TASK_ID = re.compile(r"[0-9a-f-]{36}")


@pytest.fixture
async def flower(system: Config) -> AsyncGenerator[httpx.AsyncClient]:
    login = ("monitor", system.secrets["monitor"])
    async with httpx.AsyncClient(base_url=system.address, auth=login, timeout=30) as client:
        files = {"file": (SAMPLES / "cat.jpg").read_bytes()}
        await client.post("/api/predict", files=files, headers={"Prefer": "wait=30"})
        yield client


async def test_every_page_linked_by_flower_opens(flower: httpx.AsyncClient, page: Page) -> None:
    async def shows_a_task() -> int:
        await page.goto("/flower/tasks", wait_until="networkidle")
        return await page.locator("a[href*='/flower/task/']").count()

    await eventually(shows_a_task)
    seen: set[str] = set()
    waiting = ["/flower/tasks", "/flower/"]
    while waiting:
        link = waiting.pop()
        seen.add(link)
        answer = await page.goto(link, wait_until="networkidle")
        assert answer, link
        assert answer.status == 200, link
        found = set(await page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))"))
        links = {link for link in found if not link.startswith(("#", "http"))}
        assert all(link.startswith("/flower/") for link in links), links
        for link in links:  # one page of a task is enough
            if TASK_ID.sub("", link) not in {TASK_ID.sub("", known) for known in [*seen, *waiting]}:
                waiting.append(link)
    assert {link.split("/")[2].split("?")[0] for link in seen} >= {"tasks", "task", "worker", "broker"}


async def test_the_broker_page_lists_the_queues(flower: httpx.AsyncClient) -> None:
    async def lists_them() -> bool:
        rows = (await flower.get("/flower/broker")).text.split("<tr")
        cells = [re.findall(r"<td[^>]*>([^<]+)</td>", row) for row in rows]
        # The queue's name and its consumers. The pattern does not find the last column, "Idle since".
        return {(row[0].strip(), row[-1].strip()) for row in cells if row} == {
            ("inference", "1"),
            ("inference.bulk", "1"),
            ("training", "1"),
        }

    await eventually(lists_them, 30)


async def test_a_head_request_to_flower_is_answered_like_get(flower: httpx.AsyncClient) -> None:
    for path in ("/flower/", "/flower/tasks"):
        got, head = await flower.get(path), await flower.head(path)
        assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
        assert head.headers["content-type"] == got.headers["content-type"]


async def test_flower_cannot_send_commands(flower: httpx.AsyncClient) -> None:
    answer = await flower.post("/flower/api/worker/shutdown/inference@localhost")
    assert answer.status_code == 403
