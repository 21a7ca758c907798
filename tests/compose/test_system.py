"""The system as Docker Compose runs it, used through its one port."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse
from playwright.async_api import Page, expect

from tests.compose.conftest import PROJECT, Compose
from tests.conftest import SAMPLES, eventually, read_events
from tests.e2e.conftest import open_page

SERVICES = {"proxy", "backend", "inference", "training", "db", "rabbitmq", "flower", "socket-proxy"}
CAT = (SAMPLES / "cat.jpg").read_bytes()


@pytest.fixture
async def client(running: Compose) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.address, timeout=60) as client:
        yield client


@pytest.fixture
async def page(running: Compose) -> AsyncGenerator[Page]:
    async with open_page(running.address, running.secret("monitor_password"), []) as page:
        yield page


async def health(client: httpx.AsyncClient) -> dict[str, Any]:
    return (await client.get("/api/health")).json()


async def classify(client: httpx.AsyncClient, **headers: str) -> dict[str, Any]:
    answer = await client.post(
        "/api/predict", files={"file": ("cat.jpg", CAT)}, headers={"Prefer": "wait=30", **headers}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def upload_and_follow(client: httpx.AsyncClient) -> list[str]:
    """Upload, and follow the prediction to its end; returns the status of each event."""
    accepted = (await client.post("/api/predict", files={"file": CAT})).json()
    async with asyncio.timeout(30), aconnect_sse(client, "GET", accepted["urls"]["events"]) as stream:
        return [json.loads(event.data)["status"] async for event in read_events(stream)]


def test_every_service_is_healthy(running: Compose) -> None:
    containers = {container["Service"]: container for container in running.containers()}
    assert set(containers) == SERVICES
    for name, container in containers.items():
        assert container["State"] == "running", name
        assert container["Health"] == ("" if name == "socket-proxy" else "healthy"), name


async def test_an_image_is_classified_through_the_proxy(client: httpx.AsyncClient) -> None:
    prediction = await classify(client)
    assert (prediction["status"], prediction["prediction"]) == ("succeeded", "cat")


async def test_events_arrive_through_the_proxy_and_end(client: httpx.AsyncClient) -> None:
    assert (await upload_and_follow(client))[-1] == "succeeded"


async def test_health_reports_only_the_containers_of_this_project_and_no_secret(
    running: Compose, client: httpx.AsyncClient
) -> None:
    components = (await health(client))["components"]
    assert components["containers_unavailable"] is None
    containers = {container["service"]: container for container in components["containers"]}
    assert set(containers) == SERVICES
    assert all(container["name"].startswith(f"{PROJECT}-") for container in containers.values())
    for name, container in containers.items():
        assert container["state"] == "running"
        assert container["restarts"] == 0
        assert container["memory_bytes"] > 0, name
        assert container["cpu_percent"] >= 0, name
    assert containers["db"]["health"] == "healthy"
    for secret in running.secrets.iterdir():
        assert secret.read_text() not in json.dumps(components), secret.name


async def test_the_socket_proxy_allows_only_the_four_calls_of_the_backend(running: Compose) -> None:
    ask = """import sys, urllib.request, urllib.error
for method, path in (line.split() for line in sys.argv[1:]):
    request = urllib.request.Request('http://socket-proxy:2375' + path, method=method)
    try:
        print(urllib.request.urlopen(request, timeout=5).status)
    except urllib.error.HTTPError as error:
        print(error.code)"""
    db = f"/containers/{running('ps', '--quiet', 'db').stdout.strip()}"
    allowed = ["GET /version", "GET /containers/json", f"GET {db}/json", f"GET {db}/stats?stream=false"]
    refused = [
        f"GET {db}/{part}" for part in ("logs", "archive?path=/run/secrets", "top", "changes", "export")
    ]
    refused += ["GET /images/json", "GET /info", "GET /secrets", f"DELETE {db}", "POST /containers/create"]
    refused += [f"POST {db}/{verb}" for verb in ("exec", "stop", "json")]
    codes = running("exec", "-T", "backend", "python", "-c", ask, *allowed, *refused).stdout.split()
    assert codes[: len(allowed)] == ["200"] * len(allowed)
    assert set(codes[len(allowed) :]) <= {"403", "405"}


def test_the_proxy_resolves_the_backend_but_not_db_nor_socket_proxy_nor_inference_worker(
    running: Compose,
) -> None:
    for name in ("db", "socket-proxy", "inference"):
        assert running("exec", "-T", "proxy", "getent", "hosts", name, check=False).returncode != 0, name
    assert running("exec", "-T", "proxy", "getent", "hosts", "backend").stdout


async def test_the_app_and_its_docs_render(page: Page) -> None:
    await page.goto("/")
    await expect(page.locator(".connection")).to_contain_text("Live")
    files = [{"name": "a frog.jpg", "mimeType": "image/jpeg", "buffer": (SAMPLES / "frog.jpg").read_bytes()}]
    await page.set_input_files("input[type=file]", files)  # pyright: ignore[reportArgumentType]
    card = page.locator(".card", has_text="a frog.jpg")
    await expect(card.locator(".headline")).to_contain_text("frog", timeout=20_000)
    await page.goto("/docs")
    await expect(page.locator(".swagger-ui")).to_contain_text("/api/predict")


async def test_flower_shows_a_prediction_only_with_the_password(
    running: Compose, client: httpx.AsyncClient
) -> None:
    prediction = await classify(client)
    login = ("monitor", running.secret("monitor_password"))
    assert (await client.get("/flower/")).status_code == 401

    async def shown() -> bool:
        answer = await client.get(f"/flower/api/task/info/{prediction['id']}", auth=login)
        return answer.status_code == 200 and answer.json()["state"] == "SUCCESS"

    await eventually(shown)


async def test_rabbitmq_s_queue_page_works_under_its_path_prefix(running: Compose) -> None:
    password = running.secret("monitor_password")
    complaints: list[str] = []
    async with open_page(running.address, password, complaints) as page:
        await page.goto("/rabbitmq/")
        await page.fill("input[name=username]", "monitor")
        await page.fill("input[name=password]", password)
        await page.click("input[type=submit]")
        await page.goto("/rabbitmq/#/queues/cifar/inference")
        await expect(page.locator("#main h1")).to_contain_text("inference", timeout=20_000)
        await page.goto("about:blank")  # this ends RabbitMQ's scripts
        # RabbitMQ's scripts may fail on an empty graph. So only violations of the page's CSP are failures.
        complaints[:] = [complaint for complaint in complaints if " forbids " in complaint]


TWO_COLOURS = """
import numpy as np; from pathlib import Path; from PIL import Image
random = np.random.default_rng(0)
for split, count in (("train", 100), ("test", 20)):
    for channel, name in enumerate(("reddish", "greenish")):
        folder = Path("/data/sets/colours") / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 200, (32, 32, 3), dtype=np.uint8)
            pixels[..., channel] |= 128
            Image.fromarray(pixels).save(folder / f"{number}.png")
"""


async def test_a_training_is_followed_and_its_model_answers_until_another_is_activated(
    running: Compose, client: httpx.AsyncClient
) -> None:
    (shipped,) = (await client.get("/api/models")).json()["results"]
    assert shipped["active"]
    assert len(shipped["pictures"]) == 4
    running("exec", "-T", "training", "python", "-c", TWO_COLOURS)
    asked = {"data": "colours", "epochs": 2, "activation": "always"}
    training = (await client.post("/api/trainings", json=asked)).json()
    async with asyncio.timeout(240), aconnect_sse(client, "GET", training["urls"]["events"]) as stream:
        events = [(event.event, json.loads(event.data)) async for event in read_events(stream)]
    assert [event["number"] for kind, event in events if kind == "epoch"] == [1, 2]
    _, ended = events[-1]
    assert ended["status"] == "succeeded", ended
    assert (await classify(client))["model"] == ended["model"]
    picture = await client.get(f"{ended['urls']['model']}/pictures/confusion")
    assert picture.headers["content-type"] == "image/png"
    assert (await client.post(shipped["urls"]["activate"])).status_code == 200

    async def shipped_answers() -> bool:
        return (await classify(client))["model"] == shipped["version"]

    await eventually(shipped_answers)


async def test_more_backends_and_workers_share_the_work_as_they_come_and_go(
    running: Compose, client: httpx.AsyncClient
) -> None:
    running("up", "--wait", "--no-recreate", "--scale", "backend=2", "--scale", "inference=3")

    async def three_workers() -> bool:
        workers = (await health(client))["components"]["inference"]["workers"]
        return [worker["status"] for worker in workers] == ["ok"] * 3

    await eventually(three_workers, 60)
    files = [("file", (f"{n}.jpg", CAT)) for n in range(200)]
    uploads = [client.post("/api/predict", files=files, headers={"Prefer": "wait=60"}) for _ in range(5)]
    for answer in await asyncio.gather(*uploads):
        assert {prediction["status"] for prediction in answer.json()["predictions"]} == {"succeeded"}

    async def all_served() -> bool:
        workers = (await health(client))["components"]["inference"]["workers"]
        return all(worker["predictions_per_second"] > 0 for worker in workers)

    await eventually(all_served)

    async def both_backends_are_asked() -> bool:
        await asyncio.gather(*(classify(client) for _ in range(8)))
        entries = [json.loads(line) for line in running.log("proxy") if line.startswith("{")]
        return len({entry["upstream"] for entry in entries if entry["uri"] == "/api/predict"}) >= 2

    await eventually(both_backends_are_asked, 60)
    for _ in range(8):  # the upload and the stream may be at different backends
        assert (await upload_and_follow(client))[-1] == "succeeded"
    running("up", "--wait", "--no-recreate", "--scale", "backend=1", "--scale", "inference=1")
    for _ in range(20):
        await classify(client)


async def test_a_log_line_of_each_of_three_services_holds_the_request_id_and_the_prediction_id(
    running: Compose, client: httpx.AsyncClient
) -> None:
    prediction = await classify(client, **{"X-Request-ID": "compose-story-1"})

    async def is_in_all_logs() -> bool:
        return all(
            any("compose-story-1" in line and prediction["id"] in line for line in running.log(service))
            for service in ("proxy", "backend", "inference")
        )

    await eventually(is_in_all_logs)


async def test_a_stop_ends_open_streams_without_an_error_and_a_start_keeps_the_history(
    running: Compose, client: httpx.AsyncClient
) -> None:
    prediction = await classify(client)
    async with client.stream("GET", "/api/events") as stream:
        running("down", "--timeout", "20")
        async for _ in stream.aiter_raw():  # raises if the stream is cut instead of ended
            pass
    running("up", "--wait", "--wait-timeout", "120")
    answer = await client.get(f"/api/predictions/{prediction['id']}")
    assert answer.json() == prediction
    assert (await classify(client))["status"] == "succeeded"
