"""The training loop and its checkpoints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.plans import Brightness, make_small_plan
from training import loop
from training import plan as plans
from training.batches import Batches
from training.errors import Diverged, OtherRun
from training.plan import TrainingPlan
from training.report import Epoch, Report

CPU = torch.device("cpu")


@pytest.fixture
def plan() -> TrainingPlan:
    return make_small_plan()


def test_plans_with_different_teachers_are_different_runs(plan: TrainingPlan) -> None:
    taught = [replace(plan, teacher=teacher) for teacher in (None, Brightness(1), Brightness(2))]
    assert len({each.identity for each in taught}) == 3


def test_a_run_whose_loss_is_not_a_number_diverges(plan: TrainingPlan) -> None:
    with pytest.raises(Diverged, match="not a number in epoch 1"):
        loop.fit(replace(plan, teacher=Brightness(float("nan"))), CPU, Report())


def test_a_warm_up_leaves_the_order_of_the_images_unchanged(plan: TrainingPlan) -> None:
    batches = Batches(plan, CPU)
    before = [indices for _, _, indices in batches.epoch(0)]
    loop.warm_up(plan, batches)
    after = [indices for _, _, indices in batches.epoch(0)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


class Stop(Exception):
    pass


class StopAfter(Report):
    """Ends a run as a crash would."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def epoch(self, epoch: Epoch) -> None:
        if epoch.number == self.epochs:
            raise Stop


def test_a_resumed_run_ends_with_the_network_of_an_uninterrupted_one(
    plan: TrainingPlan, tmp_path: Path
) -> None:
    whole = loop.fit(plan, CPU, Report())
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(Stop):
        loop.fit(plan, CPU, StopAfter(2), checkpoint)
    resumed = loop.fit(plan, CPU, Report(), checkpoint)
    assert [epoch.number for epoch in resumed.curve] == [1, 2, 3, 4]
    for name, value in whole.net.state_dict().items():
        assert torch.allclose(value.float(), resumed.net.state_dict()[name].float(), atol=1e-4), name


def test_a_checkpoint_of_another_run_is_refused(plan: TrainingPlan, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(Stop):
        loop.fit(plan, CPU, StopAfter(1), checkpoint)
    with pytest.raises(OtherRun, match="with other options"):
        loop.fit(replace(plan, seed=4), CPU, Report(), checkpoint)


def test_plans_with_different_code_are_different_runs(
    plan: TrainingPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plan.identity
    changed = tmp_path / "recipe.py"
    changed.write_bytes(plans.CODE[0].read_bytes() + b"\n")
    monkeypatch.setattr(plans, "CODE", [changed, *plans.CODE[1:]])
    assert plan.identity != before


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_run_with_a_damaged_checkpoint_starts_from_the_beginning_with_a_warning(
    content: bytes, plan: TrainingPlan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    checkpoint.write_bytes(content)
    fitted = loop.fit(replace(plan, epochs=1), CPU, Report(), checkpoint)
    assert [epoch.number for epoch in fitted.curve] == [1]
    assert "starts from the beginning" in caplog.text
