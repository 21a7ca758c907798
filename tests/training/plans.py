"""Training plans whose runs take about a second, and a teacher for them."""

import numpy as np
import torch

from training.data import Split
from training.plan import TrainingPlan
from training.recipe import Recipe

RECIPE = Recipe("small", widths=(8, 8, 8), depth=3, epochs=4, shift=2, cutout=8, lookahead=True)


def make_plan(chosen: Recipe, images: np.ndarray, labels: np.ndarray, *, seed: int = 3) -> TrainingPlan:
    """A plan for two classes, even and odd labels. It trains and validates on the same images."""
    split = Split(images, labels % 2)
    return TrainingPlan(chosen, chosen.epochs, seed, split, split, "data", classes=2)


def make_small_plan() -> TrainingPlan:
    """200 images of two classes that differ in brightness."""
    random = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = random.integers(0, 128, (200, 32, 32, 3)) + 100 * labels[:, None, None, None]
    return make_plan(RECIPE, images.astype(np.uint8), labels)


class Brightness(torch.nn.Module):
    """A teacher that tells two classes apart by the brightness of an image."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor: torch.Tensor
        self.register_buffer("factor", torch.tensor(factor))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        brightness = images.mean((1, 2, 3))
        return torch.stack((brightness, -brightness), 1) * self.factor
