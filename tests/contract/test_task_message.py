"""The task messages: the backend builds the golden messages, and Celery decodes them."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
from celery import Celery
from celery.worker.request import Request
from kombu.message import Message

from backend.broker import Broker
from backend.messages import BULK, INFERENCE, MAX_IDS, TRAINING, RowToPublish, TaskMessage, build_messages
from scripts.local.config import Config
from tests.conftest import eventually

HERE = Path(__file__).parent


@pytest.fixture(params=["classify", "train"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def golden(kind: str) -> dict[str, Any]:
    return json.loads((HERE / f"{kind}-message.json").read_text())


@pytest.fixture
def rows(kind: str, golden: dict[str, Any]) -> list[RowToPublish]:
    """The rows that the golden message names."""
    (argument,), *_ = json.loads(golden["body"])
    if kind == "train":
        return [(UUID(argument), golden["headers"]["request_id"])]
    return list(zip(map(UUID, argument), golden["headers"]["request_ids"], strict=True))


def build(kind: str, rows: list[RowToPublish]) -> TaskMessage:
    (message,) = build_messages(INFERENCE if kind == "classify" else TRAINING, rows)
    return message


@pytest.fixture
def message(kind: str, rows: list[RowToPublish]) -> TaskMessage:
    """The message as the backend builds it."""
    return build(kind, rows)


def test_the_backend_builds_the_golden_message(message: TaskMessage, golden: dict[str, Any]) -> None:
    assert message.headers == golden["headers"]
    assert message.body == golden["body"].encode()


def test_a_message_published_again_has_no_request_id(
    kind: str, golden: dict[str, Any], rows: list[RowToPublish]
) -> None:
    again = build(kind, [(id, None) for id, _ in rows])
    no_request_id = {"request_ids": [None, None]} if kind == "classify" else {"request_id": None}
    assert again.headers == golden["headers"] | no_request_id


@pytest.mark.parametrize(("queue", "count"), [(INFERENCE, 1), (INFERENCE, MAX_IDS), (BULK, 3 * MAX_IDS + 1)])
def test_the_predictions_of_a_queue_share_messages_in_the_order_of_their_ids(queue: str, count: int) -> None:
    rows: list[RowToPublish] = [(uuid4(), f"request-{number}") for number in range(count)]
    messages = build_messages(queue, rows)
    assert {message.queue for message in messages} == {queue}
    assert [len(message.argument) for message in messages][:-1] == [MAX_IDS] * (len(messages) - 1)
    bodies = [json.loads(message.body)[0][0] for message in messages]
    requests = [message.headers["request_ids"] for message in messages]
    assert [message.id for message in messages] == [body[0] for body in bodies]
    found = [
        pair for body, part in zip(bodies, requests, strict=True) for pair in zip(body, part, strict=True)
    ]
    assert found == [(str(id), request_id) for id, request_id in sorted(rows)]


def test_each_training_has_a_message_of_its_own() -> None:
    rows: list[RowToPublish] = [(uuid4(), None) for _ in range(3)]
    messages = build_messages(TRAINING, rows)
    assert [message.argument for message in messages] == sorted(str(id) for id, _ in rows)


@pytest.fixture
async def broker(servers: Config) -> AsyncGenerator[Broker]:
    """The backend's connection to the broker."""
    broker = Broker(servers.broker_url("backend"), lambda _event: None)
    await broker.open()

    async def connected() -> bool:
        return broker.connected

    await eventually(connected)
    yield broker
    await broker.close()


async def test_the_backend_publishes_the_golden_message(
    message: TaskMessage, golden: dict[str, Any], broker: Broker, servers: Config
) -> None:
    user = "training" if message.queue == TRAINING else "worker"  # the backend may not take messages
    async with await aio_pika.connect(servers.broker_url(user)) as reader:
        queue = await (await reader.channel()).declare_queue(message.queue, passive=True)
        await queue.purge()
        await broker.publish([message])
        received = await queue.get(timeout=5)
        assert received is not None
        await received.ack()
    assert received.body == golden["body"].encode()
    # Quorum queues add a delivery count.
    assert {k: v for k, v in received.headers.items() if k != "x-delivery-count"} == golden["headers"]
    properties = {name: getattr(received, name) for name in golden["properties"]}
    assert properties == golden["properties"]


async def test_messages_for_every_queue_are_published_together(broker: Broker) -> None:
    queues = (INFERENCE, BULK, TRAINING)
    before = [(await broker.inspect(queue)).depth for queue in queues]
    await broker.publish(
        [message for queue in queues for message in build_messages(queue, [(uuid4(), None)])]
    )
    after = [(await broker.inspect(queue)).depth for queue in queues]
    assert after == [depth + 1 for depth in before]


def as_request(golden: dict[str, Any], app: Celery, task: Any) -> Request:
    """The request that Celery's worker builds from the golden message."""
    message = Message(
        body=golden["body"],
        headers=golden["headers"],
        properties=golden["properties"],
        content_type=golden["properties"]["content_type"],
        content_encoding=golden["properties"]["content_encoding"],
        delivery_tag=1,
        accept={"application/json"},
    )
    return Request(message, app=app, task=task, on_ack=lambda *_: None, decoded=False)


def test_celery_itself_decodes_the_golden_message_and_runs_the_task(
    golden: dict[str, Any], rows: list[RowToPublish]
) -> None:
    app = Celery("contract", broker="memory://", set_as_current=False)
    argument = json.loads(golden["body"])[0][0]

    @app.task(name=golden["headers"]["task"], shared=False)
    def run(given: Any) -> str:
        assert given == argument
        return "done"

    request = as_request(golden, app, run)
    id = str(rows[0][0])
    assert (request.id, request.name, request.root_id) == (id, golden["headers"]["task"], id)
    assert request.argsrepr == f"({argument!r},)"
    assert request.time_limits == [None, None]
    passed_on = {
        name: request.request_dict.get(name) for name in golden["headers"] if name.startswith("request_id")
    }
    assert passed_on and passed_on.items() <= golden["headers"].items()
    assert request.execute() == "done"
