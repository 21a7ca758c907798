"""Trainings over HTTP and in the browser: start, follow, cancel, retry, and serve the new model."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncGenerator
from typing import Any

import asyncpg
import httpx
import pytest
from httpx_sse import aconnect_sse
from playwright.async_api import Page, expect

from scripts.local.config import Config
from tests.conftest import SAMPLES, eventually, pid_of, read_events
from tests.e2e.conftest import read_log
from tests.two_colours import write_two_colours

SECONDS = 300  # a training takes long: its process loads PyTorch at low CPU priority


@pytest.fixture(scope="module")
def colours(system: Config) -> str:
    """A data set of two classes in the folder of data sets."""
    root = system.state / "data-sets" / "colours"
    write_two_colours(root, train=150, test=20)
    return root.name


@pytest.fixture
async def client(system: Config) -> AsyncGenerator[httpx.AsyncClient]:
    """A client. After the test, the earlier model is activated again."""
    async with httpx.AsyncClient(base_url=system.address, timeout=60) as client:
        before = await served(client)
        yield client
        if await served(client) != before:
            answer = await client.post(f"/api/models/{before}/activate")
            assert answer.status_code == 200, answer.text

            async def back() -> bool:
                return await served(client) == before

            await eventually(back, 30)


async def served(client: httpx.AsyncClient) -> str:
    """The model version that answers uploads."""
    return (await classify(client))["model"]


async def classify(client: httpx.AsyncClient, image: bytes | None = None) -> dict[str, Any]:
    image = image or (SAMPLES / "cat.jpg").read_bytes()
    answer = await client.post("/api/predict", files={"file": image}, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def start(client: httpx.AsyncClient, **options: Any) -> dict[str, Any]:
    answer = await client.post("/api/trainings", json=options)
    assert answer.status_code == 202, answer.text
    training = answer.json()
    assert answer.headers["location"].endswith(training["urls"]["self"])
    return training


async def pass_time(system: Config, training: dict[str, Any]) -> None:
    """Act as if the worker had been silent for 20 seconds: then its run counts as lost."""
    database = await asyncpg.connect(system.database_url("cifar"))
    await database.execute(
        "UPDATE trainings SET seen_at = seen_at - interval '20 s' WHERE id = $1", training["id"]
    )
    await database.close()


async def follow(client: httpx.AsyncClient, training: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every event until the stream ends."""
    async with (
        asyncio.timeout(SECONDS),
        aconnect_sse(client, "GET", training["urls"]["events"], timeout=SECONDS) as stream,
    ):
        return [(event.event, json.loads(event.data)) async for event in read_events(stream)]


async def test_the_model_of_a_training_answers_the_next_upload(
    system: Config, colours: str, client: httpx.AsyncClient
) -> None:
    training = await start(client, data=colours, epochs=3, seed=1, activation="always")
    assert (training["status"], training["data"]) == ("queued", colours)
    events = await follow(client, training)
    statuses = list(dict.fromkeys(event["status"] for kind, event in events if kind == "training"))
    assert statuses[-2:] == ["running", "succeeded"], events[-1]
    assert [event["number"] for kind, event in events if kind == "epoch"] == [1, 2, 3]
    kind, last = events[-1]
    assert kind == "training"
    assert last["model"] and last["device"]
    reddish = (system.state / "data-sets" / colours / "test/reddish/0.png").read_bytes()
    prediction = await classify(client, reddish)  # the first upload after the training
    assert prediction["model"] == last["model"]
    assert {row["label"] for row in prediction["probabilities"]} == {"reddish", "greenish"}

    whole = (await client.get(training["urls"]["self"])).json()
    assert [epoch["number"] for epoch in whole["curve"]] == [1, 2, 3]
    model = (await client.get(last["urls"]["model"])).json()
    assert (model["active"], model["error"]) == (True, None)
    assert {picture["name"] for picture in model["pictures"]} >= {"learning-curve", "confusion"}
    for picture in model["pictures"]:
        assert (await client.get(picture["url"])).content.startswith(b"\x89PNG")

    accepted, *lines = (
        line
        for service in ("backend", "training")
        for line in read_log(system, service)
        if line.get("training_id") == training["id"]
    )
    assert accepted["request_id"] == lines[0]["request_id"]
    assert [lines[place]["message"] for place in (0, 1, -1)] == [
        "training taken", "training started", "training ended",
    ]  # fmt: skip
    login = ("monitor", system.secrets["monitor"])

    async def shown() -> bool:
        answer = await client.get(f"/flower/api/task/info/{training['id']}", auth=login)
        return answer.status_code == 200 and answer.json()["state"] == "SUCCESS"

    await eventually(shown)


async def test_a_training_started_in_the_browser_shows_its_curve_and_leaves_no_model_when_canceled(
    page: Page, system: Config, colours: str, client: httpx.AsyncClient
) -> None:
    models = {path.name for path in (system.state / "models").iterdir()}
    await page.goto("/")
    await page.get_by_role("link", name="Models").click()
    version = await served(client)
    entry = page.get_by_role("article", name=version)
    await expect(entry).to_contain_text("Active")
    await entry.locator("summary").click()
    pictures = entry.locator("img")
    await expect(pictures).to_have_count(4)
    for picture in await pictures.all():
        await picture.scroll_into_view_if_needed()  # images load when they become visible
        await expect(picture).to_have_js_property("complete", value=True)
        assert await picture.evaluate("picture => picture.naturalWidth") > 300

    await page.get_by_label("Data set (optional)").fill(colours)
    await page.get_by_label("Epochs (optional)").fill("1000")
    await page.get_by_role("button", name="Train", exact=True).click()
    run = page.locator("article", has=page.locator("#run-title"))
    await expect(run.get_by_role("img")).to_have_accessible_name(
        re.compile("after epoch [0-9]+ of 1000: validation accuracy"), timeout=SECONDS * 1000
    )
    await run.get_by_role("button", name="Cancel").click()
    await expect(run.locator(".run-status")).to_contain_text("Canceled", ignore_case=True)
    (latest, *_) = (await client.get("/api/trainings")).json()["results"]
    assert (latest["epochs"], latest["status"]) == (1000, "canceled")
    assert (await client.get(latest["urls"]["self"])).json()["curve"]

    async def swept() -> bool:
        return list((system.state / "models/.runs").iterdir()) == []

    await eventually(swept, 10)
    assert {path.name for path in (system.state / "models").iterdir()} - {".runs"} == models - {".runs"}


async def test_a_training_succeeds_in_a_second_attempt_after_its_worker_is_killed(
    system: Config, colours: str, client: httpx.AsyncClient
) -> None:
    training = await start(client, data=colours, epochs=4, activation="never")

    async def measured() -> bool:
        return len((await client.get(training["urls"]["self"])).json()["curve"]) > 0

    await eventually(measured, SECONDS)
    os.kill(pid_of(system, "training"), signal.SIGKILL)
    await pass_time(system, training)
    events = await follow(client, training)
    assert events[-1][1]["status"] == "succeeded", events[-1]
    assert [event["number"] for kind, event in events if kind == "epoch"] == [1, 2, 3, 4]
    lines = [line for line in read_log(system, "training") if line.get("training_id") == training["id"]]
    assert [line["attempt"] for line in lines if line["message"] == "training started"] == [1, 2]


async def test_a_missing_data_set_fails_the_training_with_a_message(client: httpx.AsyncClient) -> None:
    training = await start(client, data="no-such-data")
    kind, last = (await follow(client, training))[-1]
    assert (kind, last["status"]) == ("training", "failed")
    assert last["error"]["title"] == "Data set not found"
    assert "'no-such-data'" in last["error"]["detail"]
