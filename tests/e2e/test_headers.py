"""The proxy adds headers to every answer, and pages work under their content security policies."""

import re

import httpx
import pytest
from playwright.async_api import Page, expect

from scripts.local.config import Config

ONCE = (
    "Content-Security-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
    "Referrer-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-Request-ID",
)
OURS = [
    "/",
    "/docs",
    "/icon.svg",
    "/no-such-page",
    "/metrics",
    "/api/health",
    "/api/no-such",
    "/openapi.json",
]
THEIRS = ["/flower", "/flower/", "/flower/metrics", "/rabbitmq/", "/rabbitmq/api/overview"]


@pytest.mark.parametrize("path", OURS + THEIRS)
async def test_every_answer_has_each_header_once_and_names_no_server_but_nginx(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert {name: len(answer.headers.get_list(name)) for name in ONCE} == dict.fromkeys(ONCE, 1)
    assert answer.headers["server"] == "nginx"
    assert not re.search(r"nginx/\d|Tornado|Cowboy|uvicorn", f"{answer.headers} {answer.text}")


@pytest.mark.parametrize("path", OURS)
async def test_the_policy_of_our_pages_forbids_inline_scripts(client: httpx.AsyncClient, path: str) -> None:
    policy = (await client.get(path)).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("path", "selector", "text"),
    [
        ("/", ".connection", "Live"),
        ("/docs", ".swagger-ui", "/api/predict"),
        ("/flower/", "main, body", "inference@localhost"),
        ("/rabbitmq/", "#login", "Username"),
    ],
)
async def test_a_page_works_under_its_content_security_policy(
    page: Page, path: str, selector: str, text: str
) -> None:
    await page.goto(path)
    await expect(page.locator(selector).first).to_contain_text(text)


async def test_rabbitmq_s_pages_work_under_their_content_security_policy(
    page: Page, system: Config, complaints: list[str]
) -> None:
    await page.goto("/rabbitmq/#/queues/cifar/inference")
    await page.fill("input[name=username]", "monitor")
    await page.fill("input[name=password]", system.secrets["monitor"])
    await page.click("input[type=submit]")
    await expect(page.locator("#main h1")).to_contain_text("inference")
    await page.goto("about:blank")  # this ends RabbitMQ's scripts
    # RabbitMQ's scripts may fail on a graph that has no figures yet. Only violations of our policy are kept:
    # the fixture `page` fails the test if a complaint is left.
    complaints[:] = [complaint for complaint in complaints if " forbids " in complaint]


async def test_the_button_try_it_out_works_under_the_policy_of_the_documentation(page: Page) -> None:
    await page.goto("/docs")
    await page.locator(".opblock-get", has_text="/api/health/live").locator("button").first.click()
    await page.locator(".try-out__btn").click()
    await page.locator(".execute").click()
    await expect(page.locator(".live-responses-table")).to_contain_text('"status": "ok"')


async def test_an_injected_script_does_not_run(page: Page, complaints: list[str]) -> None:
    await page.goto("/")
    await page.evaluate(
        """() => {
            const script = document.createElement("script")
            script.textContent = "window.ran = true"
            document.body.append(script)
        }"""
    )
    assert await page.evaluate("window.ran") is None
    assert [complaint.split()[0] for complaint in complaints] == ["script-src-elem"]
    complaints.clear()


async def test_assets_are_cached_for_ever_and_pages_are_revalidated(client: httpx.AsyncClient) -> None:
    index = await client.get("/")
    assert index.headers["cache-control"] == "no-cache"
    found = re.search(r"/assets/[^\"]+\.js", index.text)
    assert found
    script = await client.get(found[0])
    assert "immutable" in script.headers["cache-control"]
    assert script.headers["content-encoding"] == "gzip"
    assert (await client.get("/assets/gone.js")).headers["cache-control"] == "no-store"


async def test_a_redirect_keeps_scheme_host_and_port(client: httpx.AsyncClient) -> None:
    assert (await client.get("/flower")).headers["location"] == "/flower/"
    assert (await client.get("/rabbitmq")).headers["location"] == "/rabbitmq/"
