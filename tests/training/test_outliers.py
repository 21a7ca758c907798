"""Outliers: those to train on, and those to measure detection."""

import numpy as np
import pytest
import torch

from training.batches import normalise
from training.outliers import make_test_outliers, make_training_outliers


@pytest.mark.parametrize("count", [6, 8, 30, 120])
def test_a_seventh_of_training_outliers_is_plain_and_a_seventh_noisy_however_few_are_made(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    made = torch.cat([make_training_outliers(count, generator) for _ in range(2100 // count)])
    measured = [roughness(outlier) for outlier in normalise(made)]
    plain, noisy = sum(value < 0.01 for value in measured), sum(value > 0.8 for value in measured)
    assert 0.08 < plain / len(made) < 0.21  # a seventh
    assert 0.08 < noisy / len(made) < 0.21


def roughness(image: torch.Tensor) -> float:
    """The mean difference of horizontal neighbours, divided by the deviation of all pixels.

    0 for a plain colour, about 1 for noise.
    """
    spread = image.std((1, 2)).mean()
    return float((image[:, :, 1:] - image[:, :, :-1]).abs().mean() / spread) if spread > 1e-4 else 0.0


def test_the_same_seed_makes_the_same_test_outliers_and_shuffling_keeps_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    made, again = make_test_outliers(images, 1), make_test_outliers(images, 1)
    for kind, outliers in made.items():
        assert outliers.shape == images.shape, kind
        assert np.array_equal(outliers, again[kind]), kind
    shuffled = made["shuffled tiles"]
    assert not np.array_equal(shuffled, images)
    kept, given = ({bytes(np.sort(image.ravel())) for image in part} for part in (shuffled, images))
    assert kept == given


def test_shuffled_tiles_come_from_every_class_even_if_images_are_sorted_by_class() -> None:
    images = np.zeros((2000, 32, 32, 3), dtype=np.uint8)
    images[1000:] = 255
    shuffled = make_test_outliers(images, 0)["shuffled tiles"]
    assert 400 < (shuffled == 255).all((1, 2, 3)).sum() < 600
