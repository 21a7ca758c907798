"""A person with a browser: the page, the live label, the history, and what else the proxy serves."""

import shutil
from collections.abc import AsyncGenerator

import httpx
import pytest
from playwright.async_api import Page, async_playwright, expect

from scripts.local.config import Config
from tests.conftest import SAMPLES

OFF_THE_NETWORK = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
async def page(system: Config) -> AsyncGenerator[Page]:
    """A page of the running system; any script error on it fails the test."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "Chromium is missing; scripts/bootstrap chromium installs it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=OFF_THE_NETWORK)
        page = await browser.new_page(base_url=f"http://localhost:{system.http_port}")
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Refused" in message.text else None)
        yield page
        await browser.close()
    assert errors == []


async def test_an_image_dropped_on_the_page_gets_its_label(page: Page) -> None:
    await page.goto("/")
    await expect(page.locator(".connection")).to_contain_text("Live")
    image = (SAMPLES / "ship.jpg").read_bytes()
    transfer = await page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer()
            transfer.items.add(new File([new Uint8Array(bytes)], "my ship.jpg", { type: "image/jpeg" }))
            return transfer
        }""",
        list(image),
    )
    await page.locator("input[type=file]").locator("..").dispatch_event("drop", {"dataTransfer": transfer})
    card = page.locator(".card", has_text="my ship.jpg")
    await expect(card.locator(".headline")).to_contain_text("ship", timeout=20_000)
    await expect(page.locator(".history li", has_text="my ship.jpg")).to_contain_text("ship")


async def test_a_file_that_is_no_image_is_refused_in_words_beside_one_that_is(page: Page) -> None:
    await page.goto("/")
    await page.set_input_files(
        "input[type=file]",
        [
            {"name": "notes.png", "mimeType": "image/png", "buffer": b"just text"},
            {"name": "frog.jpg", "mimeType": "image/jpeg", "buffer": (SAMPLES / "frog.jpg").read_bytes()},
        ],
    )
    refused = page.locator(".card", has_text="notes.png")
    await expect(refused).to_contain_text("Not a supported image")
    await expect(refused).to_contain_text("convert")
    await expect(page.locator(".card", has_text="frog.jpg").locator(".headline")).to_contain_text(
        "frog", timeout=20_000
    )


async def test_another_reader_sees_an_upload_arrive_live(page: Page, system: Config) -> None:
    await page.goto("/")
    await expect(page.locator(".connection")).to_contain_text("Live")
    files = {"file": ("from curl.jpg", (SAMPLES / "horse.jpg").read_bytes())}
    async with httpx.AsyncClient(base_url=system.address) as client:
        await client.post("/api/predict", files=files)
    await expect(page.locator(".history li", has_text="from curl.jpg")).to_contain_text("horse")


async def test_the_api_s_documentation_needs_no_other_host(page: Page, system: Config) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto("/docs")
    await expect(page.locator(".swagger-ui")).to_contain_text("/api/predict")
    assert {httpx.URL(url).port for url in asked if url.startswith("http")} == {system.http_port}


async def test_the_proxy_serves_flower_and_rabbitmq_to_those_with_the_password(system: Config) -> None:
    login = ("monitor", system.secrets["monitor"])
    async with httpx.AsyncClient(base_url=system.address) as client:
        assert (await client.get("/flower/tasks")).status_code == 401
        assert (await client.get("/flower/tasks", auth=login)).status_code == 200
        assert (await client.get("/flower/metrics", auth=login)).status_code == 404
        assert "RabbitMQ" in (await client.get("/rabbitmq/")).text
        assert (await client.get("/rabbitmq/api/overview")).status_code == 401
        queues = (await client.get("/rabbitmq/api/queues/cifar", auth=login)).json()
        assert {queue["name"] for queue in queues} >= {"inference", "inference.dead", "training"}


async def test_the_proxy_answers_what_it_refuses_itself_with_a_problem(system: Config) -> None:
    async with httpx.AsyncClient(base_url=system.address, timeout=30) as client:
        answer = await client.post("/api/predict", files={"file": bytes(70 * 2**20)})
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"] == "Request too large"
    assert answer.json()["request_id"]
