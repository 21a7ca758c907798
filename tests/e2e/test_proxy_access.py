"""Which hosts and addresses the proxy serves, which pages may make changes, and what needs the password."""

import httpx
import pytest

from scripts.local.config import Config
from tests.e2e.proxy import assert_is_problem, build_get, send


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://{host}.elsewhere.example"])
@pytest.mark.parametrize("path", ["/api/trainings", "/api/predict", "/api/models/v1/activate"])
async def test_a_page_of_another_site_cannot_make_changes(
    client: httpx.AsyncClient, path: str, origin: str
) -> None:
    foreign = {"Origin": origin.format(host=client.base_url.netloc.decode())}
    assert_is_problem(await client.post(path, headers=foreign), 403, "From another site")


@pytest.mark.parametrize("path", ["/", "/api/models", "/no-such-page", "/flower/"])
@pytest.mark.parametrize(
    "host",
    ["Host: elsewhere.example\r\n", "Host: localhost.elsewhere.example\r\n", "Host: 127.0.0.1.x\r\n", ""],
)
async def test_an_unknown_host_name_is_not_served(system: Config, host: str, path: str) -> None:
    """A page of another site may point its own host name at this machine (DNS rebinding)."""
    version = "1.1" if host else "1.0"
    request = f"GET {path} HTTP/{version}\r\n{host}Connection: close\r\n\r\n"
    answer = await send(system, request.encode())
    assert answer.status_code == 421
    if path.startswith("/api/"):
        assert_is_problem(answer, 421, "Unknown host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:8080"])
async def test_the_names_of_localhost_are_served(system: Config, host: str) -> None:
    answer = await send(
        system, build_get("/api/health/live").replace(b"Host: localhost", f"Host: {host}".encode())
    )
    assert answer.status_code == 200


async def test_our_own_pages_may_make_changes_and_a_get_from_elsewhere_is_answered(
    client: httpx.AsyncClient,
) -> None:
    own = {"Origin": str(client.base_url).rstrip("/")}
    # 422 is the backend's answer to an upload without a file.
    assert (await client.post("/api/predict", headers=own)).status_code == 422
    assert (await client.get("/api/models", headers={"Origin": "https://elsewhere.example"})).is_success


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/api/../metrics",
        "/api/..%2Fmetrics",
        "/flower/metrics",
        "/flower//metrics",
        "/flower/%6Detrics",
        "/flower/healthcheck",
        "/grafana/metrics",
        "/_error/problem",
    ],
)
async def test_internal_addresses_answer_404(system: Config, path: str) -> None:
    answer = await send(system, build_get(path))
    assert answer.status_code == 404
    assert "This address does not exist. Start at / or at /docs." in answer.text


async def test_flower_and_rabbitmq_need_the_password(client: httpx.AsyncClient, system: Config) -> None:
    login = ("monitor", system.secrets["monitor"])
    assert (await client.get("/flower/tasks")).status_code == 401
    assert (await client.get("/flower/tasks", auth=login)).status_code == 200
    assert (await client.get("/rabbitmq/api/overview")).status_code == 401
    queues = (await client.get("/rabbitmq/api/queues/cifar", auth=login)).json()
    assert {queue["name"] for queue in queues} >= {
        "inference",
        "inference.bulk",
        "inference.dead",
        "training",
    }
    dead = await client.get("/rabbitmq/api/queues/cifar/inference.dead", auth=login)
    assert dead.json()["name"] == "inference.dead"
