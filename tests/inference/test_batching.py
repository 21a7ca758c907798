"""Batching without a clock: what waits is taken when the device is free."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state

from inference import batching
from inference.batching import BatchTask, Call, Collector
from inference.errors import DeviceLost


class Request:
    """What a Collector needs of Celery's request; remembers how it ended."""

    def __init__(self, name: str, *, redelivered: bool = False) -> None:
        self.args = [name]
        self.request_dict = {"id": name}
        self.delivery_info = {"redelivered": redelivered}
        self.ended: list[str] = []

    def on_accepted(self, _pid: int, _time: float) -> None:
        self.ended.append("started")

    def on_success(self, outcome: tuple[bool, str, float]) -> None:
        self.ended.append(f"succeeded {outcome[1]}")

    def on_failure(self, info: Any) -> None:
        self.ended.append(f"failed {info.exception.exc}")

    def reject(self, *, requeue: bool) -> None:
        self.ended.append("requeued" if requeue else "rejected")


class Consumer:
    """A consumer whose loop and pool run only when told to."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.batches: list[tuple[Any, Any]] = []
        self.hub = SimpleNamespace(
            call_later=lambda _delay, callback: self.soon.append(callback),
            call_soon=lambda callback: self.soon.append(callback),
        )
        self.pool = SimpleNamespace(apply_async=lambda target, args: self.batches.append((target, args)))
        self.flushes = 0

    def flush_events(self) -> None:
        self.flushes += 1

    def tick(self) -> None:
        """The loop's next turn."""
        callbacks, self.soon = self.soon, []
        for callback in callbacks:
            callback()

    def work(self) -> list[str]:
        """Run the pool's one batch; returns what was in it."""
        ((target, args),) = self.batches
        self.batches = []
        target(*args)
        return [request.args[0] for request in args[0]]


class Echo(BatchTask):
    name = "echo"

    def __init__(self, max_batch_size: int = 3) -> None:
        super().__init__()
        self.max_batch_size = max_batch_size

    def describe(self) -> dict[str, Any]:
        return {}

    def run_batch(self, calls: Sequence[Call]) -> list[Any]:
        names = [call.arguments[0] for call in calls]
        assert names == [call.headers["id"] for call in calls]
        return [ValueError("bad") if name == "bad" else name.upper() for name in names]


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
def collector(consumer: Consumer) -> Collector:
    collector = Echo().collector
    collector.connect(consumer)
    return collector


def add(collector: Collector, *names: str, redelivered: bool = False) -> list[Request]:
    requests = [Request(name, redelivered=redelivered) for name in names]
    for request in requests:
        collector.add(request)  # pyright: ignore[reportArgumentType]
    return requests


def test_a_lone_request_runs_at_the_loop_s_next_turn(collector: Collector, consumer: Consumer) -> None:
    (request,) = add(collector, "a")
    consumer.tick()
    assert consumer.work() == ["a"]
    assert request.ended == ["started", "succeeded A"]


def test_what_arrives_while_a_batch_runs_is_the_next_batch(collector: Collector, consumer: Consumer) -> None:
    add(collector, "a")
    consumer.tick()
    add(collector, "b", "c")
    consumer.tick()
    assert consumer.work() == ["a"]
    consumer.tick()
    assert consumer.work() == ["b", "c"]


def test_a_batch_never_exceeds_its_size(collector: Collector, consumer: Consumer) -> None:
    add(collector, "a", "b", "c", "d")
    consumer.tick()
    assert consumer.work() == ["a", "b", "c"]
    consumer.tick()
    assert consumer.work() == ["d"]


def test_a_redelivered_request_runs_alone(collector: Collector, consumer: Consumer) -> None:
    add(collector, "a", "b")
    add(collector, "suspect", redelivered=True)
    consumer.tick()
    assert consumer.work() == ["suspect"]
    consumer.tick()
    assert consumer.work() == ["a", "b"]


def test_each_request_of_a_batch_ends_by_itself(collector: Collector, consumer: Consumer) -> None:
    good, bad, other = add(collector, "a", "bad", "c")
    consumer.tick()
    consumer.work()
    assert good.ended[-1] == "succeeded A"
    assert bad.ended[-1] == "failed bad"
    assert other.ended[-1] == "succeeded C"


def test_a_batch_that_raises_goes_back_to_the_broker_and_the_next_one_runs(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Echo()
    task.collector.connect(consumer)
    monkeypatch.setattr(task, "run_batch", lambda _calls: [])  # the wrong length
    first, second = add(task.collector, "a", "b")
    consumer.tick()
    consumer.work()
    assert first.ended == second.ended == ["started", "requeued"]
    assert not task.collector.busy


class Ended(BaseException):
    """What `os._exit` raises here."""


def test_a_lost_device_ends_the_process_with_its_messages_unsettled(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(_calls: Sequence[Call]) -> list[Any]:
        raise DeviceLost("no memory is left")

    def end(status: int) -> None:
        raise Ended(status)

    task = Echo()
    task.collector.connect(consumer)
    monkeypatch.setattr(task, "run_batch", lose)
    monkeypatch.setattr(batching.os, "_exit", end)
    (request,) = add(task.collector, "a")
    consumer.tick()
    with pytest.raises(Ended, match="1"):
        consumer.work()
    assert request.ended == ["started"]


def test_a_new_connection_forgets_what_the_old_one_delivered(
    collector: Collector, consumer: Consumer
) -> None:
    add(collector, "a")
    add(collector, "b", redelivered=True)
    fresh = Consumer()
    collector.connect(fresh)
    consumer.tick()
    assert consumer.batches == fresh.batches == []


def test_a_worker_that_stops_starts_no_batch(
    collector: Collector, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "should_stop", 0)
    (request,) = add(collector, "a")
    consumer.tick()
    assert consumer.batches == []
    assert request.ended == []


def test_the_last_batch_of_a_worker_that_stops_sends_its_events_itself(
    collector: Collector, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(collector, "a")
    consumer.tick()
    monkeypatch.setattr(state, "should_stop", 0)
    consumer.work()
    assert consumer.flushes == 1


def test_events_that_come_together_go_out_together() -> None:
    timers: list[Callable[[], None]] = []
    flushed: list[str] = []
    consumer = batching.Consumer.__new__(batching.Consumer)
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
