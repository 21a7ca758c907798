"""The task messages: the backend builds, and the workers decode, the same golden message."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
from celery import Celery
from celery.worker.request import Request
from kombu.message import Message

from backend.broker import Broker
from backend.messages import TaskMessage, classify, train
from inference.batching import BatchTask, Call
from scripts.local.config import Config
from tests.conftest import eventually

HERE = Path(__file__).parent
BUILDERS: dict[str, Callable[[UUID, str | None], TaskMessage]] = {"classify": classify, "train": train}


@pytest.fixture(params=BUILDERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def golden(kind: str) -> dict[str, Any]:
    return json.loads((HERE / f"{kind}-message.json").read_text())


@pytest.fixture
def message(kind: str, golden: dict[str, Any]) -> TaskMessage:
    """The message that the backend builds."""
    return BUILDERS[kind](UUID(golden["headers"]["id"]), golden["headers"]["request_id"])


def test_the_backend_builds_the_golden_message(message: TaskMessage, golden: dict[str, Any]) -> None:
    assert message.headers == golden["headers"]
    assert message.body == golden["body"].encode()
    assert str(message) == f"{golden['headers']['task']}({golden['headers']['id']})"


def test_a_message_published_again_has_no_request_id(kind: str, golden: dict[str, Any]) -> None:
    again = BUILDERS[kind](UUID(golden["headers"]["id"]), None)
    assert again.headers == golden["headers"] | {"request_id": None}


async def test_the_backend_publishes_the_golden_message(
    message: TaskMessage, golden: dict[str, Any], servers: Config
) -> None:
    broker = Broker(servers.broker_url("backend"), lambda _event: None)
    await broker.open()
    reader = await aio_pika.connect(servers.broker_url("backend"))
    try:

        async def connected() -> bool:
            return broker.connected

        await eventually(connected)
        queue = await (await reader.channel()).declare_queue(message.queue, passive=True)
        await queue.purge()
        await broker.publish([message])
        received = await queue.get(timeout=5)
        assert received is not None
        await received.ack()
    finally:
        await broker.close()
        await reader.close()
    assert received.body == golden["body"].encode()
    # Quorum queues add a delivery count.
    assert {k: v for k, v in received.headers.items() if k != "x-delivery-count"} == golden["headers"]
    properties = {name: getattr(received, name) for name in golden["properties"]}
    assert properties == golden["properties"]


async def test_messages_of_both_kinds_are_published_together(servers: Config) -> None:
    broker = Broker(servers.broker_url("backend"), lambda _event: None)
    await broker.open()
    try:

        async def connected() -> bool:
            return broker.connected

        await eventually(connected)
        before = [(await broker.inspect(queue)).depth for queue in ("inference", "training")]
        await broker.publish([classify(uuid4()), train(uuid4())])
        after = [(await broker.inspect(queue)).depth for queue in ("inference", "training")]
        assert after == [depth + 1 for depth in before]
    finally:
        await broker.close()


class Recording(BatchTask):
    """A task with the real name and signature, without a model."""

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


def as_request(
    golden: dict[str, Any], app: Celery, task: Any, acknowledged: Callable[..., None] = lambda *_: None
) -> Request:
    """The call that Celery's worker makes for the golden message."""
    message = Message(
        body=golden["body"],
        headers=golden["headers"],
        properties=golden["properties"],
        content_type=golden["properties"]["content_type"],
        content_encoding=golden["properties"]["content_encoding"],
        delivery_tag=1,
        accept={"application/json"},
    )
    return Request(message, app=app, task=task, on_ack=acknowledged, decoded=False)


@pytest.mark.parametrize("kind", ["classify"], indirect=True)
def test_celery_itself_decodes_the_golden_message_and_runs_the_task(
    golden: dict[str, Any], app: Celery
) -> None:
    task = Recording()
    app.register_task(task)
    acknowledged: list[bool] = []
    request = as_request(golden, app, task, lambda *_: acknowledged.append(True))
    id = golden["headers"]["id"]
    assert (request.id, request.name, request.root_id) == (id, "inference.classify", id)
    assert request.argsrepr == f"('{id}',)"
    assert request.time_limits == [None, None]
    assert request.request_dict["request_id"] == golden["headers"]["request_id"]
    assert request.execute() == "done"
    assert [tuple(call.arguments) for call in task.calls] == [(id,)]
    assert acknowledged == [True]


@pytest.mark.parametrize("kind", ["train"], indirect=True)
def test_celery_itself_decodes_the_golden_training_and_runs_the_task(
    golden: dict[str, Any], app: Celery
) -> None:
    @app.task(name="training.train")
    def run(id: str) -> str:
        return f"ran {id}"

    request = as_request(golden, app, run)
    id = golden["headers"]["id"]
    assert (request.id, request.name, request.root_id) == (id, "training.train", id)
    assert request.argsrepr == f"('{id}',)"
    assert request.time_limits == [None, None]
    assert request.request_dict["request_id"] == golden["headers"]["request_id"]
    assert request.execute() == f"ran {id}"
