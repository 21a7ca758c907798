"""The wire between backend and worker: one golden message, held by both sides."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import pytest
from celery import Celery
from celery.worker.request import Request
from kombu.message import Message

from backend.broker import Broker
from backend.messages import ClassifyMessage
from inference.batching import BatchTask, Call
from scripts.local.config import Config
from tests.conftest import eventually

GOLDEN = json.loads((Path(__file__).parent / "classify-message.json").read_text())
ID = UUID(GOLDEN["headers"]["id"])
REQUEST_ID = GOLDEN["headers"]["request_id"]


def test_the_backend_builds_the_golden_message() -> None:
    message = ClassifyMessage(ID, REQUEST_ID)
    assert message.headers == GOLDEN["headers"]
    assert message.body == GOLDEN["body"].encode()
    assert str(message) == f"inference.classify({ID})"


def test_a_message_published_again_has_no_request_id() -> None:
    assert ClassifyMessage(ID).headers == GOLDEN["headers"] | {"request_id": None}


async def test_the_backend_publishes_the_golden_message(servers: Config) -> None:
    broker = Broker(servers.broker_url("backend"), lambda _event: None)
    await broker.open()
    reader = await aio_pika.connect(servers.broker_url("backend"))
    try:

        async def connected() -> bool:
            return broker.connected

        await eventually(connected)
        queue = await (await reader.channel()).declare_queue("inference", passive=True)
        await queue.purge()
        await broker.publish([ClassifyMessage(ID, REQUEST_ID)])
        received = await queue.get(timeout=5)
        assert received is not None
        await received.ack()
    finally:
        await broker.close()
        await reader.close()
    assert received.body == GOLDEN["body"].encode()
    # Quorum queues add a count of their own at delivery.
    assert {k: v for k, v in received.headers.items() if k != "x-delivery-count"} == GOLDEN["headers"]
    properties = {name: getattr(received, name) for name in GOLDEN["properties"]}
    assert properties == GOLDEN["properties"]


class Recording(BatchTask):
    """The task's name and signature, without a model."""

    name = "inference.classify"
    max_batch_size = 1

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def run_batch(self, calls: Sequence[Call]) -> list[Any]:
        self.calls.extend(calls)
        return ["done"] * len(calls)


@pytest.fixture
def app() -> Celery:
    return Celery("contract", broker="memory://", set_as_current=False)


def test_celery_itself_decodes_the_golden_message_and_runs_the_task(app: Celery) -> None:
    task = Recording()
    app.register_task(task)
    message = Message(
        body=GOLDEN["body"],
        headers=GOLDEN["headers"],
        properties=GOLDEN["properties"],
        content_type=GOLDEN["properties"]["content_type"],
        content_encoding=GOLDEN["properties"]["content_encoding"],
        delivery_tag=1,
        accept={"application/json"},
    )
    acknowledged: list[bool] = []
    request = Request(
        message,
        app=app,
        task=task,
        on_ack=lambda *_: acknowledged.append(True),
        decoded=False,
    )
    assert (request.id, request.name, request.root_id) == (str(ID), "inference.classify", str(ID))
    assert request.argsrepr == f"('{ID}',)"
    assert request.time_limits == [None, None]
    assert request.request_dict["request_id"] == REQUEST_ID
    assert request.execute() == "done"
    assert [tuple(call.arguments) for call in task.calls] == [(str(ID),)]
    assert acknowledged == [True]
