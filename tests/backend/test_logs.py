"""The log: JSON lines, with the id of the request on every line that the request causes."""

import json
import logging
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import aio_pika
import pytest

from backend import logs
from scripts.local.config import Config
from tests.backend.conftest import Api
from tests.conftest import eventually

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(api: Api, caplog: pytest.LogCaptureFixture) -> Generator[Lines]:
    """The log of the running backend, with the lines of uvicorn."""
    caplog.set_level(logging.INFO, "backend")
    written = StringIO()
    handler = logs.build_handler(written)
    loggers = [logging.getLogger(name) for name in ("backend", "uvicorn")]
    for logger in loggers:
        logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    for logger in loggers:
        logger.removeHandler(handler)


async def test_an_accepted_upload_is_one_line_with_the_ids_of_request_and_predictions(
    api: Api, cat: bytes, lines: Lines
) -> None:
    answer = await api.upload(cat, cat, **{"X-Request-ID": "upload-1"})
    (line,) = lines()
    ids = [prediction["id"] for prediction in answer.json()["predictions"]]
    assert (line["message"], line["request_id"], line["prediction_ids"]) == (
        "upload accepted",
        "upload-1",
        ids,
    )
    assert (line["level"], line["logger"]) == ("INFO", "backend.submissions")
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert next(iter(line)) == "time"


async def test_the_task_message_holds_the_id_of_the_request(api: Api, cat: bytes, servers: Config) -> None:
    reader = await aio_pika.connect(servers.broker_url("worker"))
    try:
        queue = await (await reader.channel()).declare_queue("inference", passive=True)
        await queue.purge()
        id = (await api.upload(cat, **{"X-Request-ID": "upload-2"})).json()["id"]

        async def received() -> Any:
            return await queue.get(fail=False, no_ack=True)

        headers = (await eventually(received)).headers
    finally:
        await reader.close()
    assert (headers["id"], headers["request_ids"]) == (id, ["upload-2"])


async def test_a_refused_request_is_one_line_with_its_title(api: Api, lines: Lines) -> None:
    answer = await api.upload(b"no image")
    (line,) = lines()
    assert (line["message"], line["title"], line["status"], line["path"]) == (
        "request refused",
        "Not a supported image",
        415,
        "/api/predict",
    )
    assert line["request_id"] == answer.headers["x-request-id"]


async def test_a_refused_file_among_others_is_a_line_of_its_own(api: Api, cat: bytes, lines: Lines) -> None:
    await api.upload(cat, b"", **{"X-Request-ID": "upload-3"})
    refused, accepted = lines()
    assert (refused["message"], refused["title"], refused["file"]) == ("file refused", "Empty file", "1.jpg")
    assert len(accepted["prediction_ids"]) == 1
    assert refused["request_id"] == accepted["request_id"] == "upload-3"


async def test_an_unexpected_exception_is_logged_with_the_id_of_the_request(
    api: Api, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.services.checks, "check_database", None)
    await api.client.get("/api/health/ready", headers={"X-Request-ID": "broken-1"})
    error = next(line for line in lines() if line["level"] == "ERROR")
    assert (error["logger"], error["message"]) == ("backend.middleware", "request failed")
    assert error["request_id"] == "broken-1"
    assert "TypeError" in error["exc_info"]


async def test_a_line_outside_every_request_has_no_request_id(api: Api, lines: Lines) -> None:
    await api.client.get("/api/health/live")
    logging.getLogger("backend.relay").info("a tick")
    (line,) = lines()
    assert line["message"] == "a tick"
    assert "request_id" not in line
