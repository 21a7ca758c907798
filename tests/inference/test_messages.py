"""Task messages as Celery delivers them: each one is a group of predictions, a failed task, or malformed."""

import json
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID, uuid4

import pytest
from celery import Celery
from celery.exceptions import InvalidTaskError
from kombu.message import Message

from celery_worker.consumer import Consumer
from celery_worker.task import build_strategy, fail
from inference.collector import Group
from inference.errors import ClassificationError
from inference.messages import BULK, INTERACTIVE, MAX_PREDICTIONS
from inference.task import Classify, count_prefetches
from scripts.local.config import REPOSITORY

ID = str(uuid4())


class Worker:
    """Delivers messages to the task as Celery does, and records groups and events. Runs nothing."""

    def __init__(self) -> None:
        app = Celery("test", broker="memory://", set_as_current=False)
        task = Classify(MagicMock(), 4)
        app.register_task(task)
        self.events: list[tuple[str, dict[str, Any]]] = []
        events = MagicMock(enabled=True, send=lambda kind, **fields: self.events.append((kind, fields)))
        consumer = MagicMock(hostname="test", event_dispatcher=events, connection_errors=())
        consumer.controller.state.revoked = set()
        self.groups: list[Group] = []
        self.settled: list[str] = []
        consumer.on_task_request = lambda request: Consumer.take(consumer, request)
        self.handle = build_strategy(task, app, consumer)
        task.add = lambda group: self.groups.append(group)

    def deliver(
        self, arguments: Any, queue: str = INTERACTIVE, *, redelivered: bool = False, **headers: Any
    ) -> None:
        self.take(
            json.dumps([arguments, {}, {}]),
            {"task": "inference.classify", "id": "a"} | headers,
            {"routing_key": queue, "redelivered": redelivered},
        )

    def take(self, body: str, headers: dict[str, Any], delivery_info: dict[str, Any]) -> None:
        message = Message(
            body=body,
            headers=headers,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_info=delivery_info,
            accept={"application/json"},
        )
        acknowledge = lambda *_: self.settled.append("acknowledged")  # noqa: E731
        reject = lambda *_: self.settled.append("rejected")  # noqa: E731
        self.handle(message, None, acknowledge, reject, [])


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_a_message_is_a_group_of_predictions_with_their_request_ids(worker: Worker) -> None:
    first, second = uuid4(), uuid4()
    worker.deliver([[str(first), str(second)]], request_ids=["a", None])
    (group,) = worker.groups
    assert group.request_ids == {first: "a", second: None}
    assert not (group.is_bulk or group.is_redelivered)
    assert worker.settled == []


def test_the_golden_message_is_a_group_of_its_predictions(worker: Worker) -> None:
    golden = json.loads((REPOSITORY / "tests/contract/classify-message.json").read_text())
    worker.take(golden["body"], golden["headers"], {"routing_key": INTERACTIVE, "redelivered": False})
    (group,) = worker.groups
    ids = [str(id) for id in group.request_ids]
    assert (ids[0], group.request.name) == (golden["headers"]["id"], golden["headers"]["task"])
    assert json.loads(golden["body"])[0] == [ids]
    assert list(group.request_ids.values()) == golden["headers"]["request_ids"]


def test_a_group_has_the_queue_and_the_redelivery_of_its_message(worker: Worker) -> None:
    worker.deliver([[ID]], BULK, redelivered=True)
    (group,) = worker.groups
    assert group.is_bulk
    assert group.is_redelivered


def test_the_same_id_twice_in_a_message_is_one_prediction(worker: Worker) -> None:
    worker.deliver([[ID, ID]], request_ids=["a", "a"])
    (group,) = worker.groups
    assert group.waiting == [UUID(ID)]


@pytest.mark.parametrize("request_ids", [None, "ab", ["a"], {"a": 1}, 7], ids=str)
def test_unusable_request_ids_are_read_as_none(request_ids: Any, worker: Worker) -> None:
    worker.deliver([[ID, str(uuid4())]], request_ids=request_ids)
    (group,) = worker.groups
    assert list(group.request_ids.values()) == [None, None]


@pytest.mark.parametrize(
    "arguments",
    [[], [ID], [[]], [[ID], [ID]], [{"0": ID}], [None], [[ID] * (MAX_PREDICTIONS + 1)], {"ids": [ID]}],
    ids=[
        "no arguments",
        "an id without a list",
        "an empty list",
        "two lists",
        "a dict",
        "null",
        "1,001 ids",
        "not a list of arguments",
    ],
)
def test_arguments_other_than_one_list_of_1_to_1000_ids_are_malformed(arguments: Any, worker: Worker) -> None:
    with pytest.raises(InvalidTaskError):
        worker.deliver(arguments)
    assert worker.groups == []


def test_a_message_may_have_a_thousand_predictions(worker: Worker) -> None:
    worker.deliver([[str(uuid4()) for _ in range(MAX_PREDICTIONS)]])
    (group,) = worker.groups
    assert len(group.waiting) == MAX_PREDICTIONS


@pytest.mark.parametrize("bad", ["x", None, 1, [ID], {"id": ID}, [[ID]]], ids=str)
def test_a_message_with_an_id_that_is_not_a_uuid_is_acknowledged_without_a_group(
    bad: Any, worker: Worker
) -> None:
    worker.deliver([[ID, bad]])
    assert worker.groups == []
    assert worker.settled == ["acknowledged"]


def test_flower_shows_in_words_why_a_task_failed(worker: Worker) -> None:
    worker.deliver([[ID]])
    (group,) = worker.groups
    fail(group.request, ClassificationError("12 predictions: 11 succeeded, 1 failed"))
    kind, fields = worker.events[-1]
    assert kind == "task-failed"
    assert fields["exception"] == "ClassificationError('12 predictions: 11 succeeded, 1 failed')"


def test_the_prefetch_is_four_batches_of_interactive_messages_and_sixteen_bulk_messages() -> None:
    assert count_prefetches(64) == {INTERACTIVE: 256, BULK: 16}
