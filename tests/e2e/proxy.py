"""What the tests of the proxy share: stand-ins for backends, raw requests, and the proxy's log."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from scripts.local.config import Config
from tests.conftest import run_proxy


@dataclass
class Backend:
    """A stand-in for a backend. It records a request's head, answers if `answers` is set, and disconnects."""

    answers: bool
    port: int = 0

    def __post_init__(self) -> None:
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if self.answers:
            writer.write(b"HTTP/1.1 202 Accepted\r\nServer: secret/1.2.3\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()


@asynccontextmanager
async def run_backend(*, answers: bool) -> AsyncGenerator[Backend]:
    backend = Backend(answers)
    async with await asyncio.start_server(backend.serve, "127.0.0.1") as server:
        backend.port = server.sockets[0].getsockname()[1]
        yield backend


@asynccontextmanager
async def run_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncGenerator[str]:
    """Serve each connection with `serve`; yields the `server` line for nginx's configuration."""
    connections: set[asyncio.Task[None] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):  # nginx may disconnect early
            await serve(reader, writer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(handle, "127.0.0.1") as server:
        yield f"server 127.0.0.1:{server.sockets[0].getsockname()[1]};"
        await asyncio.gather(*filter(None, connections))


async def send(config: Config, request: bytes) -> httpx.Response:
    """Send these bytes (a client library would correct them); read until the proxy closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", config.http_port)
    writer.write(request)
    head, _, body = (await asyncio.wait_for(reader.read(), 15)).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


def build_get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


async def find_in_log(config: Config, text: str) -> list[dict[str, object]]:
    """The requests in the proxy's log whose lines contain the text."""
    lines = (config.state / "log/nginx.log").read_text().splitlines()
    return [json.loads(line) for line in lines if text in line]


def assert_is_problem(answer: httpx.Response, status: int, title: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["title"]) == (status, title)
    assert problem["detail"].endswith(".")
    assert problem["request_id"] == answer.headers["x-request-id"]


async def upload(config: Config, host: str, **headers: str) -> httpx.Response:
    """Send an upload of one byte. An underscore in the name of a header stands for a hyphen."""
    lines = {"Host": host, "Content-Length": "1", "Connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return await send(config, f"POST /api/predict HTTP/1.1\r\n{head}\r\nx".encode())


async def try_upload(
    folder: Path, host: str, headers: dict[str, str], **settings: str
) -> tuple[int, Backend]:
    """Send an upload of one byte through a proxy with these settings; returns status and stand-in backend."""
    async with run_backend(answers=True) as backend:
        with run_proxy(folder, BACKEND_SERVERS=f"server 127.0.0.1:{backend.port};", **settings) as config:
            answer = await upload(config, host, **headers)
    return answer.status_code, backend
