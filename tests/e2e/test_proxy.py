"""The proxy: what it forwards, what it refuses and how, and how it retries."""

import asyncio
import json
import re
import resource
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from scripts.local.config import Config, find_free_ports
from tests.conftest import eventually, run_proxy

LONG = b"a" * 40_000


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Generator[Config]:
    """A proxy whose servers do not exist, limited to one upload a second."""
    changes = {"RATE_LIMIT_PER_SECOND": "1", "FLOWER_ADDRESS": "flower:5555"}
    with run_proxy(tmp_path_factory.mktemp("lonely"), **changes) as config:
        yield config


@pytest.fixture
def many_files() -> Generator[None]:
    """Raise the limit of open files: the tests hold both ends of thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Backend:
    """A stand-in for a backend. It records the heads of requests, and answers or closes the connection."""

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
    """Serve each connection with `serve`; yields nginx's `server` line. The client may disconnect."""
    connections: set[asyncio.Task[None] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(handle, "127.0.0.1") as server:
        yield f"server 127.0.0.1:{server.sockets[0].getsockname()[1]};"
        await asyncio.gather(*filter(None, connections))


async def send(config: Config, request: bytes) -> httpx.Response:
    """Send raw bytes, which a client library would correct; read until the proxy closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", config.http_port)
    writer.write(request)
    head, _, body = (await asyncio.wait_for(reader.read(), 15)).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


def get(path: str) -> bytes:
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


# Request ids and the log.


@pytest.mark.parametrize("path", ["/", "/no-such-page", "/api/health/live", "/api/no-such", "/rabbitmq/"])
async def test_a_harmless_request_id_is_kept(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers={"X-Request-ID": "my-id_1.2"})
    assert answer.headers.get_list("x-request-id") == ["my-id_1.2"]


@pytest.mark.parametrize("given", ["", "two words", '"quoted"', "a" * 65])
async def test_an_invalid_request_id_is_replaced_before_the_backend(
    client: httpx.AsyncClient, given: str
) -> None:
    answer = await client.get("/api/no-such", headers={"X-Request-ID": given})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert_is_problem(answer, 404, "Not Found")


async def test_the_access_log_of_an_upload_holds_the_prediction_s_id(
    client: httpx.AsyncClient, system: Config, cat: bytes
) -> None:
    answer = await client.post("/api/predict?secret=1", files={"file": cat})
    (entry,) = await eventually(lambda: find_in_log(system, answer.json()["id"]))
    assert entry["prediction"] == answer.headers["location"]
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert (entry["method"], entry["uri"], entry["status"]) == ("POST", "/api/predict", 202)


# Refusals.


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
    """A page of another site may point its own name at this machine (DNS rebinding)."""
    version = "1.1" if host else "1.0"
    request = f"GET {path} HTTP/{version}\r\n{host}Connection: close\r\n\r\n"
    answer = await send(system, request.encode())
    assert answer.status_code == 421
    if path.startswith("/api/"):
        assert_is_problem(answer, 421, "Unknown host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:8080"])
async def test_the_names_of_localhost_are_served(system: Config, host: str) -> None:
    answer = await send(system, get("/api/health/live").replace(b"Host: localhost", f"Host: {host}".encode()))
    assert answer.status_code == 200


async def test_our_own_pages_may_make_changes_and_others_may_read(client: httpx.AsyncClient) -> None:
    own = {"Origin": str(client.base_url).rstrip("/")}
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
    answer = await send(system, get(path))
    assert answer.status_code == 404
    assert "This address does not exist. Start at / or at /docs." in answer.text


async def test_the_404_page_is_small_and_plain(client: httpx.AsyncClient) -> None:
    answer = await client.get("/no-such-page")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/plain")
    assert answer.text == "404 Not found\nThis address does not exist. Start at / or at /docs.\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "title"),
    [
        (b"GET /api/health HTTP/1.1\r\nno header\r\n\r\n", 400, "Bad request"),
        (b"GARBAGE\r\n\r\n", 400, "Bad request"),
        (b"GET / HTTP/7.0\r\n\r\n", 400, "Bad request"),
        (
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: y\r\n\r\n",
            400,
            "Bad request",
        ),
        (b"TRACE /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "Method not allowed"),
        (b"GET /api/health?" + LONG + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "Address too long"),
        (
            b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX: " + LONG + b"\r\n\r\n",
            431,
            "Headers too large",
        ),
    ],
)
async def test_a_request_refused_by_the_proxy_gets_a_problem(
    system: Config, request_bytes: bytes, status: int, title: str
) -> None:
    assert_is_problem(await send(system, request_bytes), status, title)


async def test_large_cookies_of_other_applications_are_accepted_or_named(client: httpx.AsyncClient) -> None:
    """A browser also sends the cookies of every other application on `localhost`."""
    taken = await client.get("/api/health/live", headers={"Cookie": "a=" + "b" * 30_000})
    assert taken.status_code == 200
    refused = await client.get("/api/health/live", headers={"Cookie": "a=" + "b" * 40_000})
    assert_is_problem(refused, 431, "Headers too large")
    assert "cookies" in refused.json()["detail"] and "127.0.0.1" in refused.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/", "/icon.svg"])
async def test_a_405_answer_lists_the_allowed_methods(client: httpx.AsyncClient, path: str) -> None:
    got, head = await client.get(path), await client.head(path)
    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    refused = await client.post(path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/api/models", "/api/models/", "/openapi.json", "/openapi.json/", "/api/events"]
)
async def test_a_head_request_of_a_monitor_is_answered(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    options = await client.options(path)
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    refused = await client.delete(path)
    assert_is_problem(refused, 405, "Method Not Allowed")
    assert refused.headers.get_list("allow") == ["GET, HEAD, OPTIONS"]


@pytest.mark.parametrize("path", ["/api/predict/", "//api/predict", "/api//predict//"])
async def test_an_upload_address_may_have_extra_slashes(system: Config, cat: bytes, path: str) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="cat.jpg"\r\n\r\n'
        + cat
        + b"\r\n--x--\r\n"
    )
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    answer = await send(
        system, f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode() + body
    )
    assert answer.status_code == 202


async def test_a_request_over_the_limit_is_refused_with_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/predict", files={"file": bytes(70 * 2**20)})
    assert_is_problem(answer, 413, "Request too large")


async def test_a_client_that_never_ends_its_headers_is_disconnected(lonely: Config) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", lonely.http_port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    started = time.monotonic()
    with pytest.raises(ConnectionResetError):  # no lingering: reset_timedout_connection
        await asyncio.wait_for(reader.read(), 15)
    assert time.monotonic() - started > 9
    writer.close()


async def test_uploads_over_the_rate_limit_are_refused_with_a_problem(lonely: Config) -> None:
    async with httpx.AsyncClient(base_url=lonely.address) as client:
        paths = ("/api/predict", "/api/predict/", "/api/predict", "/api/predict//")
        answers = [await client.post(path, content=b"x") for path in paths]
        assert_is_problem(answers[0], 503, "The service is starting or stopping")
        assert_is_problem(answers[-1], 429, "Too many requests")
        assert answers[-1].headers["retry-after"] == "1"
        assert (await client.get("/")).status_code == 200
    (entry,) = await eventually(lambda: find_in_log(lonely, answers[-1].headers["x-request-id"]))
    assert entry["rate"] == "REJECTED"


async def test_a_client_with_thousands_of_streams_can_still_send_requests(
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
                writer.write(get(paths[number % len(paths)]))
                return await asyncio.wait_for(reader.readuntil(b": open\n\n"), 15)

            for first in range(0, 4000, 50):
                answers = await asyncio.gather(*map(follow, range(first, first + 50)))
                assert {answer.split()[1] for answer in answers} == {b"200"}
            refused = await send(config, get("/api/events?x=1"))
            assert_is_problem(refused, 429, "Too many requests")
            assert "4000 event streams" in refused.json()["detail"]
            assert (await send(config, get("/"))).status_code == 200
            for writer in streams:
                writer.close()


# Backends.


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


async def test_the_ui_is_served_without_any_backend(lonely: Config) -> None:
    async with httpx.AsyncClient(base_url=lonely.address) as client:
        assert "<title>" in (await client.get("/")).text
        assert (await client.get("/docs")).status_code == 200
        health = await client.get("/api/health")
        assert_is_problem(health, 503, "The service is starting or stopping")
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
    assert_is_problem(answer, 503, "The service is starting or stopping")
    assert len(first.heads + second.heads) == 1


async def test_each_upload_after_a_broken_request_is_answered(
    client: httpx.AsyncClient, system: Config
) -> None:
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
    """The only backend answers, and closes the connection when the next request comes, like in a restart."""
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
    """Otherwise the body waits for the acknowledgement of the head, which TCP may delay by 40 ms."""
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


async def test_the_path_is_passed_on_unchanged_with_one_request_id(tmp_path: Path) -> None:
    async with run_backend(answers=True) as backend:
        address = f"127.0.0.1:{backend.port}"
        with run_proxy(tmp_path, RABBITMQ_ADDRESS=address, BACKEND_SERVERS=f"server {address};") as config:
            queue = await send(config, get("/rabbitmq/api/queues/%2F/a%2Fb?x=%20"))
            forged = b"X-Forwarded-For: 8.8.8.8\r\nX-Request-ID: a b\r\n\r\n"
            upload = await send(config, get("/api/predict").replace(b"\r\n\r\n", b"\r\n" + forged))
    assert backend.heads[0].startswith("GET /rabbitmq/api/queues/%2F/a%2Fb?x=%20 HTTP/1.1\r\n")
    assert queue.headers["server"] == "nginx"
    assert f"X-Request-ID: {upload.headers['x-request-id']}\r\n" in backend.heads[1]
    assert "a b" not in backend.heads[1]
    assert "X-Forwarded-For: 127.0.0.1\r\n" in backend.heads[1]
