"""The task: every call of a batch gets exactly one answer, and a bad image fails alone."""

import math
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.batching import Call
from inference.errors import ClassificationError, DeviceLost
from inference.metrics import Metrics
from inference.outcomes import Claim, Outcome, Run
from inference.tasks import SKIPPED, Classify

POISON = b"\xff" * 3072
NOT_A_NUMBER = b"\x01" * 3072


class Rows:
    """The table, as far as the task sees it."""

    def __init__(self, rows: dict[UUID, bytes]) -> None:
        self.rows = rows
        self.outcomes: list[Outcome] = []
        self.runs: list[Run] = []

    def claim(self, ids: Sequence[UUID]) -> list[Claim]:
        return [Claim(id, self.rows[id], 1) for id in reversed(ids) if id in self.rows]

    def write(self, outcomes: Sequence[Outcome], run: Run) -> set[UUID]:
        self.outcomes.extend(outcomes)
        self.runs.append(run)
        return {outcome.claim.id for outcome in outcomes}


class Fenced(Rows):
    """A table that takes no outcome for the ids of `lost`: another worker has claimed them since."""

    def __init__(self, rows: dict[UUID, bytes], lost: set[UUID]) -> None:
        super().__init__(rows)
        self.lost = lost

    def write(self, outcomes: Sequence[Outcome], run: Run) -> set[UUID]:
        return super().write(outcomes, run) - self.lost


class Model:
    """Says 'dog' for a bright first pixel, else 'cat'; raises when a batch holds POISON. The second
    byte is how well it knows the image."""

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
        probabilities = [[1 - i[0] / 255, i[0] / 255] for i in images]
        energies = [math.nan if i == NOT_A_NUMBER else -float(i[1]) for i in images]
        return np.array(probabilities, np.float32), np.array(energies, np.float32)

    def is_unfamiliar(self, energy: float) -> bool | None:
        return energy > -3 if self.version == "m1" else None


def classify(rows: Rows) -> Classify:
    return Classify(Model(), rows, Metrics(), 8)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def ids() -> list[UUID]:
    return [uuid4() for _ in range(4)]


def calls(ids: Sequence[object]) -> list[Call]:
    return [Call([str(id)], {"request_id": f"upload-of-{id}"}) for id in ids]


def test_answers_come_in_the_order_of_the_calls(ids: list[UUID]) -> None:
    shades = (0, 254, 0, 254)
    rows = Rows({id: bytes([shade]) * 3072 for id, shade in zip(ids, shades, strict=True)})
    answers = classify(rows).run_batch(calls(ids))
    assert [answer.split()[0] for answer in answers] == ["cat", "dog", "cat", "dog"]
    assert rows.runs[0].batch_size == 4


def test_a_poison_image_fails_alone(ids: list[UUID]) -> None:
    rows = Rows({id: bytes(3072) for id in ids} | {ids[1]: POISON})
    answers = classify(rows).run_batch(calls(ids))
    assert isinstance(answers[1], ClassificationError)
    assert [str(a).split()[0] for a in answers if not isinstance(a, Exception)] == ["cat"] * 3
    failed = [outcome for outcome in rows.outcomes if outcome.error_title]
    assert [outcome.claim.id for outcome in failed] == [ids[1]]
    assert "try another" in (failed[0].error_detail or "")


def test_a_device_that_answers_for_no_image_condemns_none(ids: list[UUID]) -> None:
    rows = Rows({id: bytes(3072) for id in ids})
    task = classify(rows)
    task.classifier.lost = True  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(DeviceLost, match="device-side"):
        task.run_batch(calls(ids))
    assert rows.outcomes == []


def test_an_answer_that_is_no_number_fails_alone(ids: list[UUID]) -> None:
    rows = Rows({ids[0]: bytes(3072), ids[1]: NOT_A_NUMBER})
    good, bad = classify(rows).run_batch(calls(ids[:2]))
    assert good.startswith("cat")
    assert isinstance(bad, ClassificationError)


def test_an_outcome_says_whether_the_image_is_unfamiliar(ids: list[UUID]) -> None:
    rows = Rows({ids[0]: bytes([0, 9]) * 1536, ids[1]: bytes([0, 1]) * 1536})
    task = classify(rows)
    task.run_batch(calls(ids[:2]))
    verdicts = {outcome.claim.id: (outcome.energy, outcome.unfamiliar) for outcome in rows.outcomes}
    assert verdicts == {ids[0]: (-9, False), ids[1]: (-1, True)}
    task.serve(Model("m2"))  # pyright: ignore[reportArgumentType]
    task.run_batch(calls(ids[:1]))
    assert (rows.outcomes[-1].energy, rows.outcomes[-1].unfamiliar) == (-9, None)


def test_a_swap_in_the_middle_of_a_batch_is_seen_by_the_next_one(ids: list[UUID]) -> None:
    class Swapping(Model):
        def __call__(self, images: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            task.serve(Model("m2"))  # pyright: ignore[reportArgumentType]
            return super().__call__(images)

    rows = Rows({id: bytes(3072) for id in ids})
    task = classify(rows)
    task.serve(Swapping())  # pyright: ignore[reportArgumentType]
    task.run_batch(calls(ids[:2]))
    task.run_batch(calls(ids[2:]))
    assert [run.model for run in rows.runs] == ["m1", "m2"]
    assert rows.outcomes[0].unfamiliar is True
    assert rows.outcomes[-1].unfamiliar is None
    assert task.describe()["model"] == "m2"


def test_a_row_that_cannot_be_claimed_is_skipped(ids: list[UUID]) -> None:
    rows = Rows({ids[0]: bytes(3072)})
    answers = classify(rows).run_batch(calls(ids[:2]))
    assert answers[0].startswith("cat")
    assert answers[1] == SKIPPED


def test_an_outcome_that_was_not_written_is_reported_as_skipped(ids: list[UUID]) -> None:
    rows = Fenced({id: bytes(3072) for id in ids} | {ids[3]: POISON}, {ids[1], ids[3]})
    answers = classify(rows).run_batch(calls(ids))
    assert [str(answer).split()[0] for answer in answers] == ["cat", "skipped:", "cat", "skipped:"]
    assert answers[1] == answers[3] == SKIPPED


def test_nothing_to_claim_runs_nothing(ids: list[UUID]) -> None:
    rows = Rows({})
    assert classify(rows).run_batch(calls(ids)) == [SKIPPED] * 4
    assert rows.runs == []


@pytest.mark.parametrize("arguments", [[], ["x"], [None], [1, 2], [{"id": 1}]], ids=str)
def test_arguments_that_are_no_id_fail_alone(arguments: list[Any], ids: list[UUID]) -> None:
    rows = Rows({ids[0]: bytes(3072)})
    good, bad = classify(rows).run_batch([*calls(ids[:1]), Call(arguments, {})])
    assert good.startswith("cat")
    assert isinstance(bad, ValueError)


def test_the_same_id_twice_in_a_batch_gets_one_outcome(ids: list[UUID]) -> None:
    class Once(Rows):
        def claim(self, ids: Sequence[UUID]) -> list[Claim]:
            return super().claim(list(dict.fromkeys(ids)))

    rows = Once({ids[0]: bytes(3072)})
    answers = classify(rows).run_batch(calls([ids[0], ids[0]]))
    assert len(rows.outcomes) == 1
    assert answers[0] == answers[1]
