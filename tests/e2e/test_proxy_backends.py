"""How the proxy passes requests on, and what it does without a backend or after a broken connection."""

import asyncio
from pathlib import Path

import asyncpg
import httpx
import pytest

from scripts.local.config import Config, find_free_ports
from tests.conftest import run_proxy
from tests.e2e.proxy import assert_is_problem, build_get, run_backend, run_server, send


async def test_the_ui_is_served_without_any_backend(proxy_without_servers: Config) -> None:
    async with httpx.AsyncClient(base_url=proxy_without_servers.address) as client:
        assert "<title>" in (await client.get("/")).text
        assert (await client.get("/docs")).status_code == 200
        health = await client.get("/api/health")
        assert_is_problem(health, 503, "Service unavailable")
        assert health.headers["retry-after"] == "5"
        for path in ("/flower/", "/rabbitmq/"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "text/plain")


async def test_an_upload_goes_to_another_backend_if_one_refuses_the_connection(tmp_path: Path) -> None:
    (refusing,) = find_free_ports(1)
    async with run_backend(answers=True) as backend:
        servers = f"server 127.0.0.1:{refusing}; server 127.0.0.1:{backend.port};"
        with run_proxy(tmp_path, BACKEND_SERVERS=servers) as config:
            async with httpx.AsyncClient(base_url=config.address) as client:
                answers = [await client.post("/api/predict", content=b"x") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len(backend.heads) == 4


async def test_an_upload_that_reached_a_backend_is_not_sent_again(tmp_path: Path) -> None:
    async with run_backend(answers=False) as first, run_backend(answers=False) as second:
        servers = f"server 127.0.0.1:{first.port}; server 127.0.0.1:{second.port};"
        with run_proxy(tmp_path, BACKEND_SERVERS=servers) as config:
            async with httpx.AsyncClient(base_url=config.address) as client:
                answer = await client.post("/api/predict", content=b"x")
    assert_is_problem(answer, 503, "Service unavailable")
    assert len(first.heads + second.heads) == 1


async def test_each_upload_after_a_500_is_answered(client: httpx.AsyncClient, system: Config) -> None:
    """The backend must not close the connection after a 500: the proxy reuses it for the next request."""
    training = (await client.post("/api/trainings", content="{}")).json()["urls"]["self"]
    await client.post(f"{training}/cancel")
    database = await asyncpg.connect(system.database_url("cifar"))
    await database.execute("REVOKE SELECT ON epochs FROM backend")
    try:
        for _ in range(40):
            assert_is_problem(await client.get(training), 500, "Internal error")
            refused = await client.post("/api/predict", files={"file": b"no image"})
            assert_is_problem(refused, 415, "Not a supported image")
    finally:
        await database.execute("GRANT SELECT ON epochs TO backend")
        await database.close()
    assert (await client.get(training)).status_code == 200


@pytest.mark.parametrize(
    ("method", "status", "sent"), [("GET", 202, 3), ("DELETE", 202, 3), ("POST", 503, 2)]
)
async def test_only_idempotent_requests_are_retried_after_a_closed_connection(
    tmp_path: Path, method: str, status: int, sent: int
) -> None:
    """The only backend answers, and closes the connection when the next request comes, as in a restart."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        heads.append(await reader.readuntil(b"\r\n\r\n"))

    async with run_server(serve) as servers:
        with run_proxy(tmp_path, BACKEND_SERVERS=servers) as config:
            async with httpx.AsyncClient(base_url=config.address) as client:
                assert (await client.get("/api/health")).status_code == 202
                assert (await client.request(method, "/api/predictions/1")).status_code == status
    assert len(heads) == sent


@pytest.mark.parametrize("size", [1000, 30_000, 500_000])
async def test_the_head_and_body_of_an_upload_are_sent_together(tmp_path: Path, size: int) -> None:
    """A separate body would wait for the acknowledgement of the head, which TCP may delay by 40 ms."""
    first: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(2**16):
            first.append(part)
            await reader.readexactly(size - len(part.partition(b"\r\n\r\n")[2]))
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    async with run_server(serve) as servers:
        with run_proxy(tmp_path, BACKEND_SERVERS=servers) as config:
            async with httpx.AsyncClient(base_url=config.address) as client:
                for _ in range(20):
                    assert (await client.post("/api/predict", content=b"x" * size)).status_code == 202
    assert [b"\r\n\r\nxxx" in part for part in first] == [True] * 20


async def test_the_path_is_passed_on_unchanged_and_unsafe_headers_are_replaced(tmp_path: Path) -> None:
    async with run_backend(answers=True) as backend:
        address = f"127.0.0.1:{backend.port}"
        with run_proxy(tmp_path, RABBITMQ_ADDRESS=address, BACKEND_SERVERS=f"server {address};") as config:
            queue = await send(config, build_get("/rabbitmq/api/queues/%2F/a%2Fb?x=%20"))
            unsafe = b"X-Forwarded-For: 8.8.8.8\r\nX-Request-ID: a b\r\n\r\n"
            forwarded = await send(config, build_get("/api/predict").replace(b"\r\n\r\n", b"\r\n" + unsafe))
    assert backend.heads[0].startswith("GET /rabbitmq/api/queues/%2F/a%2Fb?x=%20 HTTP/1.1\r\n")
    assert queue.headers["server"] == "nginx"  # `backend` sent `secret/1.2.3`, which is hidden
    assert f"X-Request-ID: {forwarded.headers['x-request-id']}\r\n" in backend.heads[1]
    assert "a b" not in backend.heads[1]
    assert "X-Forwarded-For: 127.0.0.1\r\n" in backend.heads[1]
