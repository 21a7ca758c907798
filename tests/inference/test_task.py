"""Batches in progress: one is read, one runs, one is written, and each message is acknowledged once."""

from collections.abc import Generator
from uuid import UUID, uuid4

import pytest
from celery.worker import state

from inference import task as module
from inference.collector import Group
from inference.errors import DeviceLost
from inference.task import Classify
from tests.inference.task_fakes import SECONDS, SIZE, STAGES, Consumer, HoldingRunner, Request, success


@pytest.fixture
def consumer() -> Generator[Consumer]:
    consumer = Consumer()
    yield consumer
    consumer.executor.shutdown()


@pytest.fixture
def runner(consumer: Consumer) -> Generator[HoldingRunner]:
    runner = HoldingRunner()
    yield runner
    runner.release_all()


@pytest.fixture
def task(runner: HoldingRunner, consumer: Consumer) -> Classify:
    task = Classify(runner, SIZE)  # pyright: ignore[reportArgumentType]
    task.connect(consumer)
    return task


def add(task: Classify, count: int = 1, *, is_redelivered: bool = False) -> Group:
    group = Group(Request(), {uuid4(): None for _ in range(count)}, is_redelivered=is_redelivered)
    task.add(group)
    return group


def ids(*groups: Group) -> list[UUID]:
    return [id for group in groups for id in group.request_ids]


def fill(runner: HoldingRunner, task: Classify, consumer: Consumer) -> list[Group]:
    """Add four full batches: one is written, one runs, one is read, and the last one waits."""
    runner.hold_all()
    first, second, third, fourth = [add(task, SIZE) for _ in range(4)]
    consumer.tick()
    runner.let_one_leave("read")
    runner.let_one_leave("run")
    runner.wait(write=ids(first))
    while len(consumer.started) < 2:
        consumer.tick()
    runner.let_one_leave("read")
    runner.wait(write=ids(first), run=ids(second))
    while len(consumer.started) < 3:
        consumer.tick()
    runner.wait(write=ids(first), run=ids(second), read=ids(third))
    return [first, second, third, fourth]


def test_messages_that_arrive_together_share_a_batch(
    runner: HoldingRunner, task: Classify, consumer: Consumer
) -> None:
    first, second = add(task), add(task, 2)
    consumer.finish()
    assert runner.batches == [ids(first, second)]
    assert first.request.calls == ["started", success(1)]
    assert second.request.calls == ["started", success(2)]


def test_messages_that_arrive_while_a_batch_runs_share_the_next_one(
    runner: HoldingRunner, task: Classify, consumer: Consumer
) -> None:
    runner.hold_all()
    first = add(task)
    consumer.tick()
    second, third = add(task), add(task)
    consumer.tick()
    runner.release_all()
    consumer.finish()
    assert runner.batches == [ids(first), ids(second, third)]


def test_a_batch_is_read_and_another_is_written_while_one_runs(
    runner: HoldingRunner, task: Classify, consumer: Consumer
) -> None:
    first, second, third, fourth = fill(runner, task, consumer)
    assert fourth.request.calls == []
    runner.release_all()
    consumer.finish()
    for stage in STAGES:
        assert [id for entered, id in runner.order if entered == stage] == [
            ids(each)[0] for each in (first, second, third, fourth)
        ]


def test_a_message_is_acknowledged_only_after_all_its_predictions_are_done(
    runner: HoldingRunner, task: Classify, consumer: Consumer
) -> None:
    runner.hold_all()
    group = add(task, 2 * SIZE + 1)
    consumer.tick()
    runner.let_one_leave("read")
    runner.let_one_leave("run")
    runner.wait(write=ids(group)[:SIZE])
    assert group.request.calls == ["started"]
    runner.release_all()
    consumer.finish()
    assert [len(batch) for batch in runner.batches] == [SIZE, SIZE, 1]
    assert group.request.calls == ["started", success(2 * SIZE + 1)]


def test_each_prediction_of_a_redelivered_message_runs_while_no_other_batch_is_in_progress(
    runner: HoldingRunner, task: Classify, consumer: Consumer
) -> None:
    runner.hold_all()
    first = add(task, SIZE)
    consumer.tick()
    redelivered = add(task, 2, is_redelivered=True)
    last = add(task, SIZE)
    consumer.tick()
    assert consumer.started[1:] == []
    runner.let_one_leave("read")
    runner.let_one_leave("run")
    runner.wait(write=ids(first))
    consumer.tick()
    assert consumer.started[1:] == []
    runner.release_all()
    consumer.finish()
    one, two = ids(redelivered)
    assert runner.batches == [ids(first), [one], ids(last), [two]]
    assert runner.redelivered == [one, two]
    assert runner.order == [(stage, batch[0]) for batch in runner.batches for stage in STAGES]
    assert redelivered.request.calls == ["started", success(2)]


def test_the_messages_of_a_batch_that_raises_are_returned_and_the_next_batch_runs(
    runner: HoldingRunner, task: Classify, consumer: Consumer
) -> None:
    runner.error = ValueError("unexpected")
    first, second = add(task), add(task)
    consumer.finish()
    assert first.request.calls == second.request.calls == ["started", "requeued"]
    runner.error = None
    third = add(task)
    consumer.finish()
    assert third.request.calls == ["started", success(1)]


def test_a_message_whose_batch_raises_is_returned_and_its_other_predictions_do_not_run(
    runner: HoldingRunner, task: Classify, consumer: Consumer
) -> None:
    runner.error = ValueError("unexpected")
    group = add(task, 2, is_redelivered=True)
    consumer.finish()
    assert len(runner.batches) == 1
    assert group.request.calls == ["started", "requeued"]


class Ended(BaseException):
    """Raised in place of `os._exit`."""


def test_a_lost_device_ends_the_process_and_no_message_is_acknowledged(
    runner: HoldingRunner, task: Classify, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(module.os, "_exit", end)
    runner.error = DeviceLost("no memory is left")
    group = add(task)
    consumer.tick()
    with pytest.raises(Ended, match="1"):
        consumer.started[0].result(SECONDS)
    assert group.request.calls == ["started"]


def test_a_new_connection_drops_the_messages_of_the_old_one(
    runner: HoldingRunner, task: Classify, consumer: Consumer
) -> None:
    add(task)
    add(task, is_redelivered=True)
    fresh = Consumer()
    task.connect(fresh)
    consumer.finish()
    assert runner.batches == fresh.started == []
    again = add(task)
    fresh.finish()
    assert runner.batches == [ids(again)]


def test_a_worker_that_stops_starts_no_batch(
    task: Classify, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "should_stop", 0)  # the exit status; None while the worker does not stop
    group = add(task)
    consumer.tick()
    assert consumer.started == []
    assert group.request.calls == []


def test_a_worker_that_stops_finishes_the_batch_of_each_stage_and_sends_celery_events(
    runner: HoldingRunner, task: Classify, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, fourth = fill(runner, task, consumer)
    monkeypatch.setattr(state, "should_stop", 0)
    runner.release_all()
    consumer.finish()
    for group in (first, second, third):
        assert group.request.calls == ["started", success(SIZE)]
    assert fourth.request.calls == []
    assert consumer.flushes == 3
