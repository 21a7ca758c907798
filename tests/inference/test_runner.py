"""One batch: each prediction that can be taken gets one outcome, and a bad image fails alone."""

import math
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import ClassificationError, DeviceLost
from inference.messages import summarize
from inference.metrics import Metrics
from inference.outcomes import SKIPPED, Failed, ForwardPass, Outcome, Row, Succeeded
from inference.runner import BatchRunner, Speed

POISON = b"\xff" * 3072
NOT_A_NUMBER, NOT_A_PROBABILITY = b"\x01" * 3072, b"\x02" * 3072
NOW = datetime.now(UTC)


class Rows:
    """A stand-in for the table of predictions."""

    def __init__(self, rows: dict[UUID, bytes], queue_ms: float = 0.0) -> None:
        self.rows = rows
        self.queue_ms = queue_ms
        self.exhausted: set[UUID] = set()
        self.taken: list[tuple[bool, bool]] = []
        """For each call, whether the batch was redelivered, and whether it was expected to be slow."""
        self.outcomes: list[Outcome] = []
        self.passes: list[ForwardPass] = []

    def take(self, ids: Collection[UUID], *, is_redelivered: bool, is_slow: bool) -> list[Row | Failed]:
        self.taken.append((is_redelivered, is_slow))
        rows = [Row(id, self.rows.get(id, b""), 0, NOW, self.queue_ms) for id in reversed(list(ids))]
        title, detail = "Failed after 3 attempts", "Stopped 3 times."
        failed = [Failed(row, title, detail) for row in rows if row.id in self.exhausted]
        return [*failed, *(row for row in rows if row.id in self.rows)]

    def write(self, outcomes: Sequence[Outcome], forward_pass: ForwardPass) -> set[UUID]:
        self.outcomes.extend(outcomes)
        self.passes.append(forward_pass)
        return {outcome.row.id for outcome in outcomes}


class ClaimedElsewhere(Rows):
    """A table in which another worker has claimed the ids `claimed`, so their outcomes change nothing."""

    def __init__(self, rows: dict[UUID, bytes], claimed: set[UUID]) -> None:
        super().__init__(rows)
        self.claimed = claimed

    def write(self, outcomes: Sequence[Outcome], forward_pass: ForwardPass) -> set[UUID]:
        return super().write(outcomes, forward_pass) - self.claimed


class Model:
    """Answers 'dog' for an image whose first byte is high, otherwise 'cat'. Raises if the batch holds POISON.

    The energy is minus the second byte, or NaN for NOT_A_NUMBER. The probabilities of NOT_A_PROBABILITY are
    invalid. Version `m1` has the energy threshold -3, other versions have none. If `lost` is set, every batch
    raises.
    """

    classes = ("cat", "dog")
    device_name = "cpu"
    fallback = ""

    def __init__(self, version: str = "m1") -> None:
        self.version = version
        self.lost = False

    def warm_up(self, max_batch_size: int) -> None:
        self([bytes(3072)] * max_batch_size)

    def __call__(self, images: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if POISON in images:
            raise RuntimeError("poison")
        if self.lost:
            raise RuntimeError("CUDA error: device-side assert triggered")
        probabilities = [[3, -2] if i == NOT_A_PROBABILITY else [1 - i[0] / 255, i[0] / 255] for i in images]
        energies = [math.nan if i == NOT_A_NUMBER else -float(i[1]) for i in images]
        return np.array(probabilities, np.float32), np.array(energies, np.float32)

    def is_unfamiliar(self, energy: float) -> bool | None:
        return energy > -3 if self.version == "m1" else None


def build_runner(rows: Rows) -> BatchRunner:
    return BatchRunner(Model(), rows, Metrics())  # pyright: ignore[reportArgumentType]


def run(runner: BatchRunner, ids: Sequence[UUID], *, is_redelivered: bool = False) -> dict[UUID, Outcome]:
    """Run one batch. Each prediction comes from its own HTTP request."""
    request_ids: dict[UUID, str | None] = {id: f"upload-of-{id}" for id in ids}
    return dict(runner.run(request_ids, lambda: None, is_redelivered=is_redelivered))


@pytest.fixture
def ids() -> list[UUID]:
    return [uuid4() for _ in range(4)]


def test_each_prediction_of_a_batch_has_its_outcome(ids: list[UUID]) -> None:
    shades = (0, 254, 0, 254)
    rows = Rows({id: bytes([shade]) * 3072 for id, shade in zip(ids, shades, strict=True)})
    outcomes = run(build_runner(rows), ids)
    assert [str(outcomes[id]).split()[0] for id in ids] == ["cat", "dog", "cat", "dog"]
    assert rows.passes[0].batch_size == 4


def test_a_batch_passes_its_stages_in_order(ids: list[UUID]) -> None:
    passed: list[str] = []

    class WatchedRows(Rows):
        def take(self, ids: Collection[UUID], *, is_redelivered: bool, is_slow: bool) -> list[Row | Failed]:
            passed.append("read")
            return super().take(ids, is_redelivered=is_redelivered, is_slow=is_slow)

        def write(self, outcomes: Sequence[Outcome], forward_pass: ForwardPass) -> set[UUID]:
            passed.append("write")
            return super().write(outcomes, forward_pass)

    class WatchedModel(Model):
        def __call__(self, images: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            passed.append("run")
            return super().__call__(images)

    runner = build_runner(WatchedRows({ids[0]: bytes(3072)}))
    runner.serve(WatchedModel())  # pyright: ignore[reportArgumentType]
    for id in ids[:2]:  # the second one has no row
        runner.run({id: None}, lambda: passed.append("advance"), is_redelivered=False)
    first, second = ["read", "advance", "run", "advance", "write"], ["read", "advance", "advance"]
    assert passed == first + second


def test_an_image_for_which_the_model_raises_fails_alone(ids: list[UUID]) -> None:
    rows = Rows({id: bytes(3072) for id in ids} | {ids[1]: POISON})
    outcomes = run(build_runner(rows), ids)
    failed = outcomes.pop(ids[1])
    assert isinstance(failed, Failed)
    assert "try another" in failed.detail
    assert [str(outcome).split()[0] for outcome in outcomes.values()] == ["cat"] * 3


def test_no_prediction_fails_if_the_device_is_lost(ids: list[UUID]) -> None:
    rows = Rows({id: bytes(3072) for id in ids})
    runner = build_runner(rows)
    runner.classifier.lost = True  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(DeviceLost, match="device-side"):
        run(runner, ids)
    assert rows.outcomes == []


def test_an_image_with_an_invalid_energy_or_probability_fails_alone(ids: list[UUID]) -> None:
    rows = Rows({ids[0]: bytes(3072), ids[1]: NOT_A_NUMBER, ids[2]: NOT_A_PROBABILITY})
    outcomes = run(build_runner(rows), ids[:3])
    assert str(outcomes[ids[0]]).startswith("cat")
    assert isinstance(outcomes[ids[1]], Failed)
    assert isinstance(outcomes[ids[2]], Failed)


def test_an_outcome_says_whether_the_image_is_unfamiliar(ids: list[UUID]) -> None:
    rows = Rows({ids[0]: bytes([0, 9]) * 1536, ids[1]: bytes([0, 1]) * 1536})
    runner = build_runner(rows)
    assert verdicts(run(runner, ids[:2])) == {ids[0]: (-9, False), ids[1]: (-1, True)}
    runner.serve(Model("m2"))  # pyright: ignore[reportArgumentType]
    assert verdicts(run(runner, ids[:1])) == {ids[0]: (-9, None)}


def verdicts(outcomes: dict[UUID, Outcome]) -> dict[UUID, tuple[float, bool | None]]:
    found = {id: outcome for id, outcome in outcomes.items() if isinstance(outcome, Succeeded)}
    return {id: (outcome.energy, outcome.unfamiliar) for id, outcome in found.items()}


def test_a_swap_during_a_batch_takes_effect_with_the_next_one(ids: list[UUID]) -> None:
    class Swapping(Model):
        def __call__(self, images: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            runner.serve(Model("m2"))  # pyright: ignore[reportArgumentType]
            return super().__call__(images)

    rows = Rows({id: bytes(3072) for id in ids})
    runner = build_runner(rows)
    runner.serve(Swapping())  # pyright: ignore[reportArgumentType]
    first, second = run(runner, ids[:2]), run(runner, ids[2:])
    assert [each.model for each in rows.passes] == ["m1", "m2"]
    assert {unfamiliar for _, unfamiliar in verdicts(first).values()} == {True}
    assert {unfamiliar for _, unfamiliar in verdicts(second).values()} == {None}
    assert runner.describe()["model"] == "m2"


def test_a_prediction_that_cannot_be_taken_has_no_outcome(ids: list[UUID]) -> None:
    rows = Rows({ids[0]: bytes(3072)})
    runner = build_runner(rows)
    assert run(runner, ids[:2]).keys() == {ids[0]}
    assert run(runner, ids[1:]) == {}
    assert len(rows.passes) == 1
    assert runner.describe()["predictions"] == 2 + 3  # of both batches, skipped ones included


def test_an_outcome_that_was_not_written_is_not_returned(ids: list[UUID]) -> None:
    rows = ClaimedElsewhere({id: bytes(3072) for id in ids} | {ids[3]: POISON}, {ids[1], ids[3]})
    assert run(build_runner(rows), ids).keys() == {ids[0], ids[2]}


def test_take_is_told_whether_a_batch_was_redelivered_or_will_be_slow(ids: list[UUID]) -> None:
    rows = Rows({id: bytes(3072) for id in ids})
    runner = build_runner(rows)
    run(runner, ids)
    run(runner, ids, is_redelivered=True)
    runner.speed.measure(seconds=10, images=4)
    run(runner, ids)
    assert rows.taken == [(False, False), (True, False), (False, True)]


def test_the_speed_is_estimated_from_recent_batches_and_large_ones_count_for_more() -> None:
    speed = Speed()
    assert speed.expect(64) == 0
    speed.measure(seconds=0.02, images=64)
    speed.measure(seconds=0.02, images=1)
    assert speed.expect(64) == pytest.approx(0.04, rel=0.1)
    for _ in range(100):
        speed.measure(seconds=1, images=10)
    assert speed.expect(5) == pytest.approx(0.5, rel=0.01)


def row_of(id: UUID) -> Row:
    return Row(id, b"", 1, NOW, 0.0)


CAT = Succeeded(row_of(UUID(int=1)), "cat", 0.931, "[]", -3.0, unfamiliar=False)
BROKEN = Failed(row_of(UUID(int=2)), "Classification failed", "Try another image.")


@pytest.mark.parametrize(
    ("outcomes", "text"),
    [
        ([CAT], "cat 93.1%"),
        ([BROKEN], "Try another image."),
        ([None], SKIPPED),
        ([CAT] * 12, "12 predictions: 12 succeeded"),
        ([CAT] * 11 + [BROKEN], "12 predictions: 11 succeeded, 1 failed"),
        ([CAT, BROKEN, None, None], "4 predictions: 1 succeeded, 1 failed, 2 skipped"),
        ([None, None], "2 predictions: 2 skipped"),
    ],
    ids=str,
)
def test_flower_shows_the_outcomes_of_a_message(outcomes: list[Outcome | None], text: str) -> None:
    summary = summarize({uuid4(): outcome for outcome in outcomes})
    assert str(summary) == text
    assert isinstance(summary, ClassificationError) == (BROKEN in outcomes)
