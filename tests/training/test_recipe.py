"""The recipe: what a batch holds, how rates fall, what a checkpoint brings back."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.local.config import REPOSITORY
from training import recipe
from training.data import Split
from training.errors import Diverged, OtherRun
from training.recipe import ACCURATE, BATCH_SIZE, FAST, Batches, Recipe, Task
from training.report import Epoch, Silent

CPU = torch.device("cpu")
SMALL = Recipe("small", widths=(8, 8, 8), depth=3, epochs=4, shift=2, cutout=8, lookahead=True)


def make_task(chosen: Recipe, images: np.ndarray, labels: np.ndarray, *, seed: int = 3) -> Task:
    split = Split(images, labels % 2)
    return Task(chosen, chosen.epochs, seed, split, split, "data", classes=2)


@pytest.fixture
def task() -> Task:
    """200 images of two classes that differ in brightness."""
    random = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = random.integers(0, 128, (200, 32, 32, 3)) + 100 * labels[:, None, None, None]
    return make_task(SMALL, images.astype(np.uint8), labels)


def test_flips_alternate_so_that_two_epochs_show_each_image_both_ways() -> None:
    images = np.zeros((50, 32, 32, 3), dtype=np.uint8)
    images[:, :, :16] = 255  # bright on the left
    batches = Batches(make_task(FAST, images, np.arange(50)), CPU)
    bright: list[dict[int, bool]] = []
    for number in (0, 1, 2):
        ((views, _, indices),) = list(batches.epoch(number))
        views = views[: len(indices)]
        left = views[:, :, :, :8].mean((1, 2, 3)) > views[:, :, :, -8:].mean((1, 2, 3))
        bright.append(dict(zip(indices.tolist(), left.tolist(), strict=True)))
    assert all(bright[0][index] != bright[1][index] for index in range(50))
    assert bright[0] == bright[2]
    assert 10 < sum(bright[0].values()) < 40


def test_an_epoch_shows_every_image_once_and_the_same_way_when_asked_again() -> None:
    count = BATCH_SIZE + 7
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    batches = Batches(make_task(ACCURATE, images, np.zeros(count, dtype=np.int64)), CPU)
    first, again = list(batches.epoch(5)), list(batches.epoch(5))
    assert sorted(torch.cat([indices for _, _, indices in first]).tolist()) == list(range(count))
    assert all(
        torch.equal(a, b)
        for one, two in zip(first, again, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_crops_reach_every_place_and_no_further() -> None:
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    image = np.stack([rows * 8, columns * 8, rows * 0], axis=-1).astype(np.uint8)
    images = np.repeat(image[None], 900, axis=0)
    batches = Batches(make_task(replace(FAST, shift=1), images, np.zeros(900, dtype=np.int64)), CPU)
    places = {
        tuple(view.tolist())
        for views, _, indices in batches.epoch(0)
        for view in views[: len(indices), :2, 5, 5]
    }
    # one of three rows, and of six columns: three as they are, three mirrored
    assert len(places) == 18


def test_pictures_of_nothing_come_after_the_images_and_are_to_look_like_no_class() -> None:
    images = np.zeros((100, 32, 32, 3), dtype=np.uint8)
    batches = Batches(make_task(FAST, images, np.arange(100)), CPU)
    ((views, targets, indices),) = list(batches.epoch(0))
    clouds = len(views) - len(indices)
    assert clouds == 6
    assert torch.equal(targets[len(indices) :], torch.full((clouds, 2), 0.5))
    assert torch.allclose(targets[: len(indices)].max(1).values, torch.tensor(0.9))


class Brightness(torch.nn.Module):
    """A teacher that tells two classes by how bright an image is."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor: torch.Tensor
        self.register_buffer("factor", torch.tensor(factor))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        brightness = images.mean((1, 2, 3))
        return torch.stack((brightness, -brightness), 1) * self.factor


def test_a_teacher_answers_for_the_very_crops_that_the_student_sees() -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    task = replace(make_task(SMALL, images, np.arange(100)), teacher=Brightness(2.0))
    ((views, targets, indices),) = list(Batches(task, CPU).epoch(0))
    brightness = views[: len(indices)].mean((1, 2, 3))
    assert torch.allclose(targets[: len(indices), 0], (4 * brightness).sigmoid(), atol=0.02)  # bfloat16
    assert torch.equal(targets[len(indices) :], torch.full((6, 2), 0.5))


def test_runs_with_other_teachers_are_other_runs(task: Task) -> None:
    taught = [replace(task, teacher=teacher) for teacher in (None, Brightness(1), Brightness(2))]
    assert len({each.identity for each in taught}) == 3


@pytest.mark.parametrize("count", [6, 8, 30, 120])
def test_pictures_of_nothing_are_of_every_kind_however_few_are_made(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    made = torch.cat([recipe.make_clouds(count, generator) for _ in range(2100 // count)])
    kinds = [roughness(cloud) for cloud in made]
    plain, noisy = sum(kind < 0.01 for kind in kinds), sum(kind > 0.8 for kind in kinds)
    assert 0.08 < plain / len(made) < 0.21  # a seventh
    assert 0.08 < noisy / len(made) < 0.21


def roughness(image: torch.Tensor) -> float:
    """How much neighbours differ, for how much all do: 0 for a plain colour, about 1 for noise."""
    spread = image.std((1, 2)).mean()
    return float((image[:, :, 1:] - image[:, :, :-1]).abs().mean() / spread) if spread > 1e-4 else 0.0


def test_a_run_that_diverges_ends_in_words(task: Task) -> None:
    with pytest.raises(Diverged, match="in epoch 1 the loss"):
        recipe.fit(replace(task, teacher=Brightness(float("nan"))), CPU, Silent())


def test_a_square_is_cut_out_of_each_image() -> None:
    images = torch.ones(3, 3, 32, 32)
    cut = recipe.cut_out(images, torch.tensor([[0, 20, 5], [24, 0, 7]]), 8)
    assert (cut == 0).sum((1, 2, 3)).tolist() == [3 * 64] * 3
    assert cut[0, :, :8, 24:].abs().sum() == cut[1, :, 20:28, :8].abs().sum() == 0


def test_little_data_is_cut_into_small_batches_so_that_an_epoch_has_steps() -> None:
    def steps(count: int) -> int:
        images = np.zeros((count, 32, 32, 3), dtype=np.uint8)
        return len(Batches(make_task(FAST, images, np.zeros(count, dtype=np.int64)), CPU))

    assert [steps(count) for count in (90, 1000, 5000, 50_000)] == [1, 10, 20, 25]


def test_learning_rates_fall_to_zero_and_the_whitening_bias_first(task: Task) -> None:
    net = recipe.build(task, Batches(task, CPU))
    progress = recipe.Progress(net, steps=80, whiten_steps=30)
    progress.steps = 30
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    progress.step()
    rates = [group["lr"] for group in progress.sgd.param_groups]
    assert rates == pytest.approx([0, 0.053 * 0.625, 0.67 * 0.625])
    assert progress.filter_lr == pytest.approx(0.24 * 0.625)


def test_lookahead_ends_on_the_slow_weights_and_follows_at_first() -> None:
    net = torch.nn.Linear(1, 1)
    lookahead = recipe.Lookahead(net)  # pyright: ignore[reportArgumentType]
    start = net.weight.item()
    with torch.no_grad():
        net.weight += 1
    lookahead.update(share=0.0)
    assert net.weight.item() == pytest.approx(start + 1)
    with torch.no_grad():
        net.weight += 1
    lookahead.finish()
    assert net.weight.item() == pytest.approx(start + 1)


def test_a_warm_up_takes_a_step_and_leaves_no_trace(task: Task) -> None:
    batches = Batches(task, CPU)
    before = [indices for _, _, indices in batches.epoch(0)]
    recipe.warm_up(task, batches)
    after = [indices for _, _, indices in batches.epoch(0)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


class Stop(Exception):
    pass


class StopAfter(Silent):
    """Breaks a run off, as a crash would."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def epoch(self, epoch: Epoch) -> None:
        if epoch.number == self.epochs:
            raise Stop


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(task: Task, tmp_path: Path) -> None:
    whole = recipe.fit(task, CPU, Silent())
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(Stop):
        recipe.fit(task, CPU, StopAfter(2), checkpoint)
    resumed = recipe.fit(task, CPU, Silent(), checkpoint)
    assert [epoch.number for epoch in resumed.curve] == [1, 2, 3, 4]
    for name, value in whole.net.state_dict().items():
        assert torch.allclose(value.float(), resumed.net.state_dict()[name].float(), atol=1e-4), name


def test_a_checkpoint_of_another_run_is_refused(task: Task, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(Stop):
        recipe.fit(task, CPU, StopAfter(1), checkpoint)
    with pytest.raises(OtherRun, match="another run"):
        recipe.fit(replace(task, seed=4), CPU, Silent(), checkpoint)


def test_a_checkpoint_of_other_code_is_of_another_run(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = task.identity
    changed = tmp_path / "recipe.py"
    changed.write_bytes(recipe.CODE[0].read_bytes() + b"\n")
    monkeypatch.setattr(recipe, "CODE", (changed, *recipe.CODE[1:]))
    assert task.identity != before


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_run_whose_checkpoint_is_damaged_starts_anew_and_says_so(
    content: bytes, task: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    checkpoint.write_bytes(content)
    fitted = recipe.fit(replace(task, epochs=1), CPU, Silent(), checkpoint)
    assert [epoch.number for epoch in fitted.curve] == [1]
    assert "starts anew" in caplog.text


def test_two_processes_end_with_the_same_network(tmp_path: Path) -> None:
    """Each trains on its half of every batch: without what they exchange they would differ."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*torchrun, "-m", "tests.training.two_processes", str(tmp_path)],
        check=True, cwd=REPOSITORY, timeout=180, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(one["net"][name], two["net"][name]) for name in one["net"])
    assert sorted(one["seen"] + two["seen"]) == list(range(400))  # each image once
    assert len(one["seen"]) == len(two["seen"]) == 200
