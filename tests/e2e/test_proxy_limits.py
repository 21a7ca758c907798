"""The limits of the proxy: request size, time for the headers, upload rate, event streams."""

import asyncio
import resource
import time
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from scripts.local.config import Config
from tests.conftest import eventually, run_proxy
from tests.e2e.proxy import assert_is_problem, build_get, find_in_log, run_server, send


@pytest.fixture
def many_files() -> Generator[None]:
    """Raise the limit of open files: the test holds two connections for each of 4,000 streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_request_over_the_limit_is_refused_with_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/predict", files={"file": bytes(70 * 2**20)})
    assert_is_problem(answer, 413, "Request too large")


async def test_a_client_that_never_ends_its_headers_is_disconnected(proxy_without_servers: Config) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy_without_servers.http_port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    started = time.monotonic()
    with pytest.raises(ConnectionResetError):  # nginx sends a reset: `reset_timedout_connection`
        await asyncio.wait_for(reader.read(), 15)
    assert time.monotonic() - started > 9
    writer.close()


async def test_uploads_over_the_rate_limit_are_refused_with_a_problem(proxy_without_servers: Config) -> None:
    async with httpx.AsyncClient(base_url=proxy_without_servers.address) as client:
        paths = ("/api/predict", "/api/predict/", "/api/predict", "/api/predict//")
        answers = [await client.post(path, content=b"x") for path in paths]
        assert_is_problem(answers[0], 503, "Service unavailable")
        assert_is_problem(answers[-1], 429, "Too many requests")
        assert answers[-1].headers["retry-after"] == "1"
        assert (await client.get("/")).status_code == 200
    (entry,) = await eventually(
        lambda: find_in_log(proxy_without_servers, answers[-1].headers["x-request-id"])
    )
    assert entry["rate"] == "REJECTED"


async def test_a_client_gets_at_most_4000_streams_and_can_still_send_requests(
    tmp_path: Path, many_files: None
) -> None:
    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: open\n\n")
        await reader.read()  # until the client disconnects

    paths = ("/api/events", "/api/predictions/1/events", "/api/trainings/1/events/")
    streams: list[asyncio.StreamWriter] = []
    async with run_server(stream) as server:
        with run_proxy(tmp_path, BACKEND_SERVERS=server) as config:

            async def follow(number: int) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", config.http_port)
                streams.append(writer)
                writer.write(build_get(paths[number % len(paths)]))
                return await asyncio.wait_for(reader.readuntil(b": open\n\n"), 15)

            for first in range(0, 4000, 50):
                answers = await asyncio.gather(*map(follow, range(first, first + 50)))
                assert {answer.split()[1] for answer in answers} == {b"200"}
            refused = await send(config, build_get("/api/events?x=1"))
            assert_is_problem(refused, 429, "Too many requests")
            assert "4000 event streams" in refused.json()["detail"]
            assert (await send(config, build_get("/"))).status_code == 200
            for writer in streams:
                writer.close()
