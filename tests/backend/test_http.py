"""HTTP at every address: HEAD, OPTIONS, slashes, and answers to unexpected exceptions."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest
from fastapi import Response
from starlette.types import Message, Receive, Scope, Send

from backend.middleware import RequestMiddleware
from tests.backend.conftest import Api, assert_problem
from tests.conftest import eventually

PER_ANSWER = {"date", "x-request-id", "server", "transfer-encoding"}


def read_head(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in PER_ANSWER}


async def speak(api: Api, *requests: str) -> list[tuple[int, str]]:
    """Send requests one after the other on one connection; returns each status and body."""
    reader, writer = await asyncio.open_connection(api.client.base_url.host, api.client.base_url.port)
    answers: list[tuple[int, str]] = []
    for request in requests:
        writer.write(f"{request}\r\nHost: localhost\r\n\r\n".encode())
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        answers.append((int(head.split()[1]), (await reader.readexactly(length)).decode()))
    writer.close()
    return answers


# Unexpected exceptions.


@pytest.fixture
def broken(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A backend whose `/api/health/ready` raises an unexpected exception."""
    monkeypatch.setattr(api.services.checks, "check_database", None)
    return api


async def test_an_unexpected_exception_is_answered_and_keeps_the_connection(
    broken: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answers = await speak(
            broken, *["GET /api/health/ready HTTP/1.1", "GET /api/health/live HTTP/1.1"] * 3
        )
    assert [status for status, _ in answers] == [500, 200] * 3
    problem = json.loads(answers[0][1])
    assert (problem["title"], problem["status"]) == ("Internal error", 500)
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 3
    assert {(record.name, record.getMessage()) for record in logged} == {
        ("backend.middleware", "request failed")
    }


async def test_a_client_that_disconnects_during_an_upload_is_no_error(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    head = "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"

    async def noticed() -> bool:
        return any(record.getMessage() == "client left" for record in caplog.records)

    with caplog.at_level(logging.INFO):
        _, writer = await asyncio.open_connection(api.client.base_url.host, api.client.base_url.port)
        writer.write(f"{head}--x\r\n".encode())
        await writer.drain()
        writer.close()
        await eventually(noticed)
    assert all(record.levelno < logging.ERROR for record in caplog.records)


async def test_an_exception_after_a_complete_answer_keeps_the_connection() -> None:
    """A FastAPI dependency can raise such an exception after its `yield`."""
    sent: list[Message] = []

    async def answer_and_break(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("whole")(scope, receive, send)
        raise RuntimeError

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    services = SimpleNamespace(metrics=SimpleNamespace(count_request=lambda *_: None))
    app = SimpleNamespace(state=SimpleNamespace(services=services))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "app": app}
    await RequestMiddleware(answer_and_break)(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


async def test_an_incomplete_answer_ends_its_connection(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the client would take the answer for complete."""

    async def break_off() -> AsyncGenerator[bytes]:
        yield b"half a line"
        raise RuntimeError

    async def export(*_arguments: object) -> AsyncGenerator[bytes]:
        return break_off()

    monkeypatch.setattr(api.services.history, "export", export)
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        await api.client.get("/api/predictions?format=csv")


# HEAD, OPTIONS and Allow.


async def make_addresses(api: Api, cat: bytes) -> list[str]:
    """An address for every route that answers GET, and one that does not exist."""
    place = (await api.upload(cat)).json()["urls"]["self"]
    training = (await api.client.post("/api/trainings", content="{}")).json()["urls"]["self"]
    await api.client.post(f"{training}/cancel")
    values = {"predictions": place, "trainings": training, "models": "/api/models/none"}
    schema = (await api.client.get("/openapi.json")).json()
    pages = ["/openapi.json", "/metrics", "/api/predictions?format=csv", "/api/no-such"]
    for path, operations in schema["paths"].items():
        if "get" in operations:
            for name, known in values.items():
                path = path.replace(f"/api/{name}/{{id}}", known).replace(f"/api/{name}/{{version}}", known)
            pages.append(path.replace("{name}", "history.png"))
    return pages


async def test_head_has_the_headers_of_get_and_no_body_at_every_address(api: Api, cat: bytes) -> None:
    pages = await make_addresses(api, cat)
    assert len(pages) > 15
    for page in pages:
        async with asyncio.timeout(5), api.client.stream("GET", page) as got:
            pass
        head = await asyncio.wait_for(api.client.head(page), 5)
        assert (head.status_code, head.content) == (got.status_code, b""), page
        expected = read_head(got)
        if page in ("/metrics", "/api/health"):  # their figures change
            expected["content-length"] = head.headers["content-length"]
        assert read_head(head) == expected, page


async def test_head_of_an_event_stream_leaves_no_open_stream(api: Api) -> None:
    for _ in range(3):
        answer = await asyncio.wait_for(api.client.head("/api/events"), 5)
        assert answer.headers["content-type"].startswith("text/event-stream")

    async def none_is_left() -> bool:
        return "backend_stream_subscribers 0.0" in (await api.client.get("/metrics")).text

    await eventually(none_is_left)


async def test_head_is_counted_as_head(api: Api) -> None:
    await api.client.head("/api/health/live")
    figures = (await api.client.get("/metrics")).text
    assert 'backend_requests_total{method="HEAD",route="/api/health/live",status="200"} 1.0' in figures


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/predict", "OPTIONS, POST"),
        ("/api/models", "GET, HEAD, OPTIONS"),
        ("/api/trainings", "GET, HEAD, OPTIONS, POST"),
        (f"/api/predictions/{uuid4()}", "DELETE, GET, HEAD, OPTIONS"),
        (f"/api/predictions/{uuid4()}/feedback", "OPTIONS, PUT"),
        ("/api/events/", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
async def test_allow_lists_every_method_of_an_address(api: Api, path: str, allowed: str) -> None:
    refused = await api.client.request("PATCH", path)
    assert_problem(refused, 405, "does not support PATCH")
    options = await api.client.options(path)
    assert (options.status_code, options.content) == (204, b"")
    assert refused.headers["allow"] == options.headers["allow"] == allowed


async def test_an_address_that_does_not_exist_has_no_options(api: Api) -> None:
    assert_problem(await api.client.options("/api/no-such"), 404, "/docs")


# Extra slashes.


@pytest.mark.parametrize("path", ["/api/predict/", "//api//predict", "/api/predict//"])
async def test_an_upload_with_extra_slashes_is_accepted(api: Api, cat: bytes, path: str) -> None:
    answer = await api.client.post(api.client.base_url.copy_with(raw_path=path.encode()), files={"file": cat})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "path", ["/api/models/", "/api/predictions//?limit=1", "/openapi.json/", "/api/health/live/"]
)
async def test_an_address_with_slashes_at_its_end_is_answered_without_a_redirect(api: Api, path: str) -> None:
    answer = await api.client.get(path)
    assert (answer.status_code, answer.history) == (200, [])
