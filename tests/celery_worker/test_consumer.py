"""Celery's consumer as both workers have it: prefetch, requests, malformed messages, Celery events."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from celery import Celery
from celery.events.dispatcher import EventDispatcher
from celery.exceptions import InvalidTaskError
from celery.worker import consumer as celery_consumer
from celery.worker.request import Request

from celery_worker.consumer import Consumer, Events, TaskQueue
from celery_worker.task import WorkerTask, build_strategy


class Example(WorkerTask):
    name = "example"

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def check(self, arguments: list[Any]) -> None:
        if arguments == ["bad"]:
            raise InvalidTaskError("bad")

    def take(self, request: Request) -> None:
        self.taken.append(request)

    def describe(self) -> dict[str, Any]:
        return {"model": "m1"}


@pytest.fixture
def task() -> Example:
    task = Example()
    Celery("test", broker="memory://", set_as_current=False).register_task(task)
    return task


def make_consumer() -> Any:
    """The worker's consumer without a connection."""
    return Consumer.__new__(Consumer)


def test_each_queue_has_its_own_prefetch() -> None:
    calls: list[Any] = []
    channel = MagicMock()
    channel.basic_qos.side_effect = lambda *args: calls.append(args)
    channel.basic_consume.side_effect = lambda **options: calls.append(options["queue"])
    for name, prefetch in (("one", 256), ("two", 16)):
        TaskQueue.build(name, prefetch, "exchange").bind(channel).consume("tag")
    assert calls == [(0, 256, False), "one", (0, 16, False), "two"]


def test_a_queue_and_its_exchange_are_not_declared() -> None:
    channel = MagicMock()
    TaskQueue.build("one", 1, "exchange").bind(channel).declare()
    channel.queue_declare.assert_not_called()
    channel.exchange_declare.assert_not_called()


def test_a_request_is_given_to_its_task(task: Example) -> None:
    request = SimpleNamespace(task=task)
    make_consumer().take(request)
    assert task.taken == [request]


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [1, 2],
        {"args": []},
        [{}, {}, {}],
        [[], [], {}],
        [[], {}, []],
        [["bad"], {}, {}],
    ],
    ids=str,
)
def test_a_malformed_message_is_refused(payload: Any, task: Example) -> None:
    consumer = MagicMock(hostname="test", event_dispatcher=None, connection_errors=())
    handle = build_strategy(task, task.app, consumer)
    with pytest.raises(InvalidTaskError):
        handle(SimpleNamespace(payload=payload, headers={"id": "a"}))


def test_a_message_without_an_id_is_refused(task: Example) -> None:
    consumer = MagicMock(hostname="test", event_dispatcher=None, connection_errors=())
    handle = build_strategy(task, task.app, consumer)
    with pytest.raises(InvalidTaskError):
        handle(SimpleNamespace(payload=[[], {}, {}], headers={}))


class RecordingMessage:
    """A message that records whether it was rejected."""

    body = b"hello"
    is_rejected = False

    def reject_log_error(self, *_: Any) -> None:
        self.is_rejected = True


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], Callable[[Any], None]]:
    """Builds a message handler in which Celery raises the given error."""

    def build(error: Exception) -> Callable[[Any], None]:
        def handle(_message: Any) -> None:
            raise error

        monkeypatch.setattr(celery_consumer.Consumer, "create_task_handler", lambda *_args: handle)
        consumer = make_consumer()
        consumer.connection_errors = (ConnectionResetError,)
        return consumer.create_task_handler()

    return build


def test_a_message_that_causes_an_error_is_rejected_and_the_worker_goes_on(
    failing: Callable[[Exception], Callable[[Any], None]],
) -> None:
    message = RecordingMessage()
    failing(KeyError("x"))(message)
    assert message.is_rejected


def test_an_error_of_the_connection_is_raised(
    failing: Callable[[Exception], Callable[[Any], None]],
) -> None:
    message = RecordingMessage()
    with pytest.raises(ConnectionResetError):
        failing(ConnectionResetError())(message)
    assert not message.is_rejected


def test_events_that_come_together_are_sent_together() -> None:
    timers: list[Callable[[], None]] = []
    flushed: list[str] = []
    consumer = make_consumer()
    consumer.hub = SimpleNamespace(
        call_soon=lambda callback, *args: callback(*args),
        call_later=lambda _delay, callback: timers.append(callback),
    )
    consumer.event_dispatcher = SimpleNamespace(flush=lambda: flushed.append("flushed"))
    for _ in range(5):
        consumer.on_send_event_buffered()
    (flush,) = timers
    flush()
    assert flushed == ["flushed"]
    consumer.on_send_event_buffered()
    assert len(timers) == 2


def test_worker_events_hold_the_fields_of_describe_and_task_events_do_not(
    task: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(EventDispatcher, "send", lambda _self, name, **fields: sent.append((name, fields)))
    events = Events.__new__(Events)
    events.app = task.app
    events.send("worker-heartbeat", freq=2)
    events.send("task-started", uuid="a")
    assert sent == [("worker-heartbeat", {"freq": 2, "model": "m1"}), ("task-started", {"uuid": "a"})]
