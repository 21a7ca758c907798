"""The batches: augmentation, targets, and the images of an epoch."""

from dataclasses import replace

import numpy as np
import torch

from tests.training.plans import RECIPE, Brightness, make_plan
from training.batches import Batches, cut_out
from training.recipe import ACCURATE, BATCH_SIZE, FAST

CPU = torch.device("cpu")


def test_flips_alternate_so_that_two_epochs_show_each_image_both_ways() -> None:
    images = np.zeros((50, 32, 32, 3), dtype=np.uint8)
    images[:, :, :16] = 255  # bright on the left
    batches = Batches(make_plan(FAST, images, np.arange(50)), CPU)
    bright: list[dict[int, bool]] = []
    for number in (0, 1, 2):
        ((views, _, indices),) = list(batches.epoch(number))
        views = views[: len(indices)]
        left = views[:, :, :, :8].mean((1, 2, 3)) > views[:, :, :, -8:].mean((1, 2, 3))
        bright.append(dict(zip(indices.tolist(), left.tolist(), strict=True)))
    assert all(bright[0][index] != bright[1][index] for index in range(50))
    assert bright[0] == bright[2]
    assert 10 < sum(bright[0].values()) < 40


def test_an_epoch_shows_every_image_once_and_repeats_exactly() -> None:
    count = BATCH_SIZE + 7
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    batches = Batches(make_plan(ACCURATE, images, np.zeros(count, dtype=np.int64)), CPU)
    first, again = list(batches.epoch(5)), list(batches.epoch(5))
    assert sorted(torch.cat([indices for _, _, indices in first]).tolist()) == list(range(count))
    assert all(
        torch.equal(a, b)
        for one, two in zip(first, again, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_crops_reach_every_place_within_the_shift() -> None:
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    image = np.stack([rows * 8, columns * 8, rows * 0], axis=-1).astype(np.uint8)
    images = np.repeat(image[None], 900, axis=0)
    batches = Batches(make_plan(replace(FAST, shift=1), images, np.zeros(900, dtype=np.int64)), CPU)
    places = {
        tuple(view.tolist())
        for views, _, indices in batches.epoch(0)
        for view in views[: len(indices), :2, 5, 5]
    }
    # three rows, and six columns: three as they are, three mirrored
    assert len(places) == 18


def test_labels_are_smoothed_and_outliers_have_uniform_targets() -> None:
    images = np.zeros((100, 32, 32, 3), dtype=np.uint8)
    batches = Batches(make_plan(FAST, images, np.arange(100)), CPU)
    ((views, targets, indices),) = list(batches.epoch(0))
    outliers = len(views) - len(indices)
    assert outliers == 6
    assert torch.equal(targets[len(indices) :], torch.full((outliers, 2), 0.5))
    # With two classes, a label smoothing of 0.2 leaves 0.9 for the true class.
    assert torch.allclose(targets[: len(indices)].max(1).values, torch.tensor(0.9))


def test_the_teacher_gives_the_targets_for_the_crops_that_the_network_sees() -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    plan = replace(make_plan(RECIPE, images, np.arange(100)), teacher=Brightness(2.0))
    ((views, targets, indices),) = list(Batches(plan, CPU).epoch(0))
    brightness = views[: len(indices)].mean((1, 2, 3))
    # The teacher's logits are 2 and -2 times the brightness.
    # The tolerance allows for bfloat16, which the teacher uses on some CPUs.
    assert torch.allclose(targets[: len(indices), 0], (4 * brightness).sigmoid(), atol=0.02)
    assert torch.equal(targets[len(indices) :], torch.full((6, 2), 0.5))


def test_a_square_is_cut_out_of_each_image() -> None:
    images = torch.ones(3, 3, 32, 32)
    cut = cut_out(images, torch.tensor([[0, 20, 5], [24, 0, 7]]), 8)
    assert (cut == 0).sum((1, 2, 3)).tolist() == [3 * 64] * 3
    assert cut[0, :, :8, 24:].abs().sum() == cut[1, :, 20:28, :8].abs().sum() == 0


def test_a_small_data_set_has_smaller_batches() -> None:
    def steps(count: int) -> int:
        images = np.zeros((count, 32, 32, 3), dtype=np.uint8)
        return len(Batches(make_plan(FAST, images, np.zeros(count, dtype=np.int64)), CPU))

    assert [steps(count) for count in (90, 1000, 5000, 50_000)] == [1, 10, 20, 25]
