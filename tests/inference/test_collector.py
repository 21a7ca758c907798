"""Which predictions make the next batch: interactive ones first, bulk in the room that is left."""

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
    """Messages of so many predictions each; returns the ids of all."""
    groups = [group(count, is_bulk=is_bulk) for count in counts]
    for each in groups:
        collector.add(each)
    return [id for each in groups for id in each.request_ids]


def take(collector: Collector, *, is_idle: bool = True, device_is_free: bool = True) -> list[UUID]:
    batch = collector.take(is_idle=is_idle, device_is_free=device_is_free)
    return ids_of(batch) if batch else []


def ids_of(batch: Batch) -> list[UUID]:
    return list(batch.request_ids)


def test_a_batch_is_what_waits_in_the_order_of_its_arrival(collector: Collector) -> None:
    ids = add(collector, 1, 2, 1)
    assert take(collector) == ids
    assert not collector
    assert take(collector) == []


def test_a_batch_never_exceeds_its_size(collector: Collector) -> None:
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


def test_while_the_device_is_busy_only_a_full_batch_is_made_ahead(collector: Collector) -> None:
    ids = add(collector, SIZE - 2)
    bulk = add(collector, 1, is_bulk=True)
    assert take(collector, is_idle=False, device_is_free=False) == []
    ids += add(collector, 1)
    assert take(collector, is_idle=False, device_is_free=False) == ids + bulk


def test_interactive_predictions_come_first_and_bulk_fills_the_room_that_is_left(
    collector: Collector,
) -> None:
    bulk = add(collector, SIZE, SIZE, is_bulk=True)
    interactive = add(collector, 1, 2)
    assert take(collector) == interactive + bulk[: SIZE - 3]
    assert take(collector) == bulk[SIZE - 3 : 2 * SIZE - 3]


def test_bulk_does_not_starve_behind_full_batches_of_interactive_ones(collector: Collector) -> None:
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


def test_bulk_in_its_turn_takes_one_message_and_interactive_ones_fill_the_rest(collector: Collector) -> None:
    bulk = add(collector, 2, 2, is_bulk=True)
    turns: list[Sequence[UUID]] = []
    for _ in range(2 * (BULK_TURN + 1)):
        add(collector, *[1] * SIZE)
        turns.append([id for id in take(collector) if id in bulk])
    assert turns == [*[[]] * BULK_TURN, bulk[:2], *[[]] * BULK_TURN, bulk[2:]]


def test_a_prediction_that_was_delivered_before_runs_alone_with_nothing_else_at_work(
    collector: Collector,
) -> None:
    add(collector, *[1] * SIZE)
    suspects = group(2, is_redelivered=True)
    collector.add(suspects)
    assert take(collector, is_idle=False, device_is_free=False) == []
    assert take(collector, is_idle=False) == []
    for id in suspects.request_ids:
        batch = collector.take(is_idle=True, device_is_free=True)
        assert batch
        assert batch.is_redelivered
        assert ids_of(batch) == [id]
    assert len(take(collector)) == SIZE


def test_the_rest_of_a_message_that_went_back_does_not_run(collector: Collector) -> None:
    for message in (group(2 * SIZE), group(2, is_redelivered=True)):
        collector.add(message)
        assert take(collector)
        message.is_abandoned = True
        assert take(collector) == []
        assert not collector


def test_each_prediction_keeps_the_id_of_its_request(collector: Collector) -> None:
    first, second = uuid4(), uuid4()
    collector.add(Group(None, {first: "a", second: None}))
    batch = collector.take(is_idle=True, device_is_free=True)
    assert batch
    assert batch.request_ids == {first: "a", second: None}
