"""Batches in progress: one is read, one runs, one is written, and each message is settled once."""

from collections.abc import Generator
from uuid import UUID, uuid4

import pytest
from celery.worker import state

from inference import pipeline as module
from inference.collector import Group
from inference.errors import DeviceLost
from inference.pipeline import Pipeline
from tests.inference.pipeline_fakes import SECONDS, SIZE, STAGES, Consumer, Echo, Request


@pytest.fixture
def consumer() -> Generator[Consumer]:
    consumer = Consumer()
    yield consumer
    consumer.executor.shutdown()


@pytest.fixture
def task(consumer: Consumer) -> Generator[Echo]:
    task = Echo()
    task.pipeline.connect(consumer)
    yield task
    task.open()


@pytest.fixture
def pipeline(task: Echo) -> Pipeline:
    return task.pipeline


def add(pipeline: Pipeline, count: int = 1, *, is_redelivered: bool = False) -> Group:
    group = Group(Request(), {uuid4(): None for _ in range(count)}, is_redelivered=is_redelivered)
    pipeline.add(group)
    return group


def ids(*groups: Group) -> list[UUID]:
    return [id for group in groups for id in group.request_ids]


def fill(task: Echo, pipeline: Pipeline, consumer: Consumer) -> list[Group]:
    """Add four full batches: one is written, one runs, one is read, and the last one waits."""
    task.close()
    first, second, third, fourth = [add(pipeline, SIZE) for _ in range(4)]
    consumer.tick()
    task.let_one_leave("read")
    task.let_one_leave("run")
    task.wait(write=ids(first))
    while len(task.batches) < 2:
        consumer.tick()
    task.let_one_leave("read")
    task.wait(write=ids(first), run=ids(second))
    while len(task.batches) < 3:
        consumer.tick()
    task.wait(write=ids(first), run=ids(second), read=ids(third))
    return [first, second, third, fourth]


def test_messages_that_arrive_together_share_a_batch(
    task: Echo, pipeline: Pipeline, consumer: Consumer
) -> None:
    first, second = add(pipeline), add(pipeline, 2)
    consumer.finish()
    assert task.batches == [ids(first, second)]
    assert first.request.ended == ["started", "succeeded 1 done"]
    assert second.request.ended == ["started", "succeeded 2 done"]


def test_messages_that_arrive_while_a_batch_runs_share_the_next_one(
    task: Echo, pipeline: Pipeline, consumer: Consumer
) -> None:
    task.close()
    first = add(pipeline)
    consumer.tick()
    second, third = add(pipeline), add(pipeline)
    consumer.tick()
    task.open()
    consumer.finish()
    assert task.batches == [ids(first), ids(second, third)]


def test_a_batch_is_read_and_another_is_written_while_one_runs(
    task: Echo, pipeline: Pipeline, consumer: Consumer
) -> None:
    first, second, third, fourth = fill(task, pipeline, consumer)
    assert fourth.request.ended == []
    task.open()
    consumer.finish()
    for stage in STAGES:
        assert [id for entered, id in task.order if entered == stage] == [
            ids(each)[0] for each in (first, second, third, fourth)
        ]


def test_a_message_is_settled_once_when_all_its_predictions_are_done(
    task: Echo, pipeline: Pipeline, consumer: Consumer
) -> None:
    task.close()
    group = add(pipeline, 2 * SIZE + 1)
    consumer.tick()
    task.let_one_leave("read")
    task.let_one_leave("run")
    task.wait(write=ids(group)[:SIZE])
    assert group.request.ended == ["started"]
    task.open()
    consumer.finish()
    assert [len(batch) for batch in task.batches] == [SIZE, SIZE, 1]
    assert group.request.ended == ["started", f"succeeded {2 * SIZE + 1} done"]


def test_each_prediction_of_a_redelivered_message_runs_while_no_other_batch_is_in_progress(
    task: Echo, pipeline: Pipeline, consumer: Consumer
) -> None:
    task.close()
    first = add(pipeline, SIZE)
    consumer.tick()
    redelivered = add(pipeline, 2, is_redelivered=True)
    last = add(pipeline, SIZE)
    consumer.tick()
    assert consumer.started[1:] == []
    task.let_one_leave("read")
    task.let_one_leave("run")
    task.wait(write=ids(first))
    consumer.tick()
    assert consumer.started[1:] == []
    task.open()
    consumer.finish()
    one, two = ids(redelivered)
    assert task.batches == [ids(first), [one], ids(last), [two]]
    assert task.redelivered == [one, two]
    assert task.order == [(stage, batch[0]) for batch in task.batches for stage in STAGES]
    assert redelivered.request.ended == ["started", "succeeded 2 done"]


def test_the_messages_of_a_batch_that_raises_are_returned_and_the_next_batch_runs(
    task: Echo, pipeline: Pipeline, consumer: Consumer
) -> None:
    task.error = ValueError("unexpected")
    first, second = add(pipeline), add(pipeline)
    consumer.finish()
    assert first.request.ended == second.request.ended == ["started", "requeued"]
    task.error = None
    third = add(pipeline)
    consumer.finish()
    assert third.request.ended == ["started", "succeeded 1 done"]


def test_a_message_is_returned_when_one_of_its_batches_raises_and_its_rest_does_not_run(
    task: Echo, pipeline: Pipeline, consumer: Consumer
) -> None:
    task.error = ValueError("unexpected")
    group = add(pipeline, 2, is_redelivered=True)
    consumer.finish()
    assert len(task.batches) == 1
    assert group.request.ended == ["started", "requeued"]


class Ended(BaseException):
    """Raised in place of `os._exit`."""


def test_a_lost_device_ends_the_process_before_its_messages_are_settled(
    task: Echo, pipeline: Pipeline, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(module.os, "_exit", end)
    task.error = DeviceLost("no memory is left")
    group = add(pipeline)
    consumer.tick()
    with pytest.raises(Ended, match="1"):
        consumer.started[0].result(SECONDS)
    assert group.request.ended == ["started"]


def test_a_new_connection_drops_the_messages_of_the_old_one(
    task: Echo, pipeline: Pipeline, consumer: Consumer
) -> None:
    add(pipeline)
    add(pipeline, is_redelivered=True)
    fresh = Consumer()
    pipeline.connect(fresh)
    consumer.finish()
    assert task.batches == fresh.started == []
    again = add(pipeline)
    fresh.finish()
    assert task.batches == [ids(again)]


def test_a_worker_that_stops_starts_no_batch(
    pipeline: Pipeline, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "should_stop", 0)
    group = add(pipeline)
    consumer.tick()
    assert consumer.started == []
    assert group.request.ended == []


def test_a_worker_that_stops_finishes_the_batch_of_each_stage_and_sends_its_events(
    task: Echo, pipeline: Pipeline, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, fourth = fill(task, pipeline, consumer)
    monkeypatch.setattr(state, "should_stop", 0)
    task.open()
    consumer.finish()
    for group in (first, second, third):
        assert group.request.ended == ["started", f"succeeded {SIZE} done"]
    assert fourth.request.ended == []
    assert consumer.flushes == 3
