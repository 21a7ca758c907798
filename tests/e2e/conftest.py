"""A browser and a client of the running system, its logs, and a proxy without servers."""

import json
import shutil
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, Playwright, async_playwright, expect

from scripts.local.config import Config
from tests.conftest import run_proxy

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=20_000)  # milliseconds; a busy machine needs more than the usual 5 s
REPORT_VIOLATIONS = """addEventListener("securitypolicyviolation", event =>
    reportViolation(`${event.violatedDirective} forbids ${event.blockedURI}`))"""


async def launch_chromium(playwright: Playwright) -> Browser:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "Chromium is missing; run: scripts/bootstrap tests"
    return await playwright.chromium.launch(executable_path=program, args=CHROMIUM_OPTIONS)


@pytest.fixture
def complaints() -> list[str]:
    """The errors of the page's scripts, and the violations of its content security policy."""
    return []


@asynccontextmanager
async def open_page(address: str, monitor_password: str, complaints: list[str]) -> AsyncGenerator[Page]:
    """A browser page of the system at `address`, logged in to Flower. A complaint fails the test."""
    async with async_playwright() as playwright:
        browser = await launch_chromium(playwright)
        page = await browser.new_page(
            base_url=address,
            http_credentials={"username": "monitor", "password": monitor_password},
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.expose_function("reportViolation", lambda text: complaints.append(text))
        await page.add_init_script(REPORT_VIOLATIONS)
        yield page
        await browser.close()
    assert complaints == []


@pytest.fixture
async def page(system: Config, complaints: list[str]) -> AsyncGenerator[Page]:
    async with open_page(system.address, system.secrets["monitor"], complaints) as page:
        yield page


@pytest.fixture
async def client(system: Config) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=system.address, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def proxy_without_servers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Config]:
    """A proxy whose servers do not exist, limited to one upload a second."""
    changes = {"RATE_LIMIT_PER_SECOND": "1", "FLOWER_ADDRESS": "flower:5555"}
    with run_proxy(tmp_path_factory.mktemp("proxy"), **changes) as config:
        yield config


def read_log(system: Config, name: str) -> list[dict[str, Any]]:
    """The JSON lines of a service's log, without the plain lines that Celery prints when it is stopped."""
    lines = Path(system.state / f"log/{name}.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line and not line.startswith("worker: ")]
