"""Which predictions form the next batch: interactive ones first, then bulk."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from inference.collector import BULK_TURN, Batch, Collector, Group

SIZE = 8


@pytest.fixture
def collector() -> Collector:
    return Collector(SIZE)


def group(count: int = 1, *, is_bulk: bool = False, is_redelivered: bool = False) -> Group:
    return Group(None, {uuid4(): None for _ in range(count)}, is_bulk, is_redelivered)


def add(collector: Collector, *counts: int, is_bulk: bool = False) -> list[UUID]:
    """Add one message for each count, with that many predictions. Returns the ids of all predictions."""
    groups = [group(count, is_bulk=is_bulk) for count in counts]
    for each in groups:
        collector.add(each)
    return [id for each in groups for id in each.request_ids]


def take(collector: Collector, *, is_idle: bool = True, device_is_free: bool = True) -> list[UUID]:
    batch = collector.choose(is_idle=is_idle, device_is_free=device_is_free)
    return ids_of(batch) if batch else []


def ids_of(batch: Batch) -> list[UUID]:
    return list(batch.request_ids)


def test_a_batch_takes_what_waits_in_the_order_of_arrival(collector: Collector) -> None:
    ids = add(collector, 1, 2, 1)
    assert take(collector) == ids
    assert not collector
    assert take(collector) == []


def test_a_batch_never_exceeds_the_maximum(collector: Collector) -> None:
    ids = add(collector, *[1] * (SIZE + 1))
    assert take(collector) == ids[:SIZE]
    assert take(collector) == ids[SIZE:]


def test_a_message_that_does_not_fit_is_split_over_batches(collector: Collector) -> None:
    ids = add(collector, SIZE - 1, 3 * SIZE)
    batches: list[list[UUID]] = []
    while batch := take(collector):
        batches.append(batch)
    assert [len(batch) for batch in batches] == [SIZE, SIZE, SIZE, SIZE - 1]
    assert [id for batch in batches for id in batch] == ids


def test_only_a_full_batch_starts_while_the_device_is_busy(collector: Collector) -> None:
    ids = add(collector, SIZE - 2)
    bulk = add(collector, 1, is_bulk=True)
    assert take(collector, is_idle=False, device_is_free=False) == []
    ids += add(collector, 1)
    assert take(collector, is_idle=False, device_is_free=False) == ids + bulk


def test_interactive_predictions_go_first_and_bulk_fills_the_batch(
    collector: Collector,
) -> None:
    bulk = add(collector, SIZE, SIZE, is_bulk=True)
    interactive = add(collector, 1, 2)
    assert take(collector) == interactive + bulk[: SIZE - 3]
    assert take(collector) == bulk[SIZE - 3 : 2 * SIZE - 3]


def test_bulk_runs_after_four_full_batches_of_interactive_predictions(collector: Collector) -> None:
    (bulk,) = add(collector, 1, is_bulk=True)
    taken = 0
    while True:
        add(collector, *[1] * SIZE)
        batch = take(collector)
        assert len(batch) == SIZE
        if bulk in batch:
            break
        taken += 1
    assert taken == BULK_TURN
    assert batch[0] == bulk


def test_one_bulk_message_runs_after_every_four_batches_without_bulk(collector: Collector) -> None:
    bulk = add(collector, 2, 2, is_bulk=True)
    turns: list[Sequence[UUID]] = []
    for _ in range(2 * (BULK_TURN + 1)):
        add(collector, *[1] * SIZE)
        turns.append([id for id in take(collector) if id in bulk])
    assert turns == [*[[]] * BULK_TURN, bulk[:2], *[[]] * BULK_TURN, bulk[2:]]


def test_a_redelivered_prediction_runs_alone_and_only_while_no_other_batch_is_in_progress(
    collector: Collector,
) -> None:
    add(collector, *[1] * SIZE)
    redelivered = group(2, is_redelivered=True)
    collector.add(redelivered)
    assert take(collector, is_idle=False, device_is_free=False) == []
    assert take(collector, is_idle=False) == []
    batch = collector.choose(is_idle=True, device_is_free=True)
    assert batch
    assert batch.is_redelivered
    assert ids_of(batch) == list(redelivered.request_ids)[:1]
    assert take(collector, is_idle=False) == []


def test_redelivered_predictions_take_turns_with_interactive_ones_before_bulk(collector: Collector) -> None:
    redelivered = group(4, is_redelivered=True)
    collector.add(redelivered)
    alone = [[id] for id in redelivered.request_ids]
    bulk = add(collector, 1, is_bulk=True)
    first, second = [add(collector, *[1] * SIZE) for _ in range(2)]
    expected = [alone[0], first, alone[1], second, *alone[2:], bulk]
    batches = [collector.choose(is_idle=True, device_is_free=True) for _ in expected]
    assert [batch and ids_of(batch) for batch in batches] == expected
    assert [batch and batch.is_redelivered for batch in batches] == [ids in alone for ids in expected]
    assert not collector


def test_first_deliveries_run_at_once_after_a_redelivered_message_is_returned(collector: Collector) -> None:
    message = group(2, is_redelivered=True)
    collector.add(message)
    message.is_returned = True
    ids = add(collector, 1)
    assert take(collector) == ids
    assert not collector


def test_the_rest_of_a_returned_message_does_not_run(collector: Collector) -> None:
    for message in (group(2 * SIZE), group(2, is_redelivered=True)):
        collector.add(message)
        assert take(collector)
        message.is_returned = True
        assert take(collector) == []
        assert not collector


def test_each_prediction_keeps_the_id_of_its_http_request(collector: Collector) -> None:
    first, second = uuid4(), uuid4()
    collector.add(Group(None, {first: "a", second: None}))
    batch = collector.choose(is_idle=True, device_is_free=True)
    assert batch
    assert batch.request_ids == {first: "a", second: None}
