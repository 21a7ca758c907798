"""Shuffled and augmented batches of the training images."""

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training import distributed
from training.hardware import forward
from training.model import INPUT_SIZE
from training.outliers import make_training_outliers
from training.plan import TrainingPlan
from training.recipe import BATCH_SIZE, LABEL_SMOOTHING, MEAN, OUTLIERS, SMALL_BATCH_SIZE, SMALL_STEPS, STD


class Batches:
    """The batches of each epoch. The device holds all images as uint8, padded by reflection.

    Order, crops and mirroring depend only on the seed and the epoch's number: a resumed run sees the same.
    """

    def __init__(self, plan: TrainingPlan, device: torch.device) -> None:
        self.recipe, self.seed, self.classes, self.device = plan.recipe, plan.seed, plan.classes, device
        self.teacher = plan.teacher.to(device) if plan.teacher else None
        pad = self.recipe.shift
        padded = np.pad(plan.train.images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
        self.images = torch.from_numpy(padded).to(device).permute(0, 3, 1, 2)  # (count, 3, 32 + 2 pad, ...)
        self.labels = torch.from_numpy(plan.train.labels).to(device)
        self.mirrored_first = (
            torch.rand(len(padded), generator=torch.Generator().manual_seed(self._seed(0))) < 0.5
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        size = min(BATCH_SIZE, max(SMALL_BATCH_SIZE, len(self.labels) // SMALL_STEPS))
        return math.ceil(len(self.labels) / size)

    def sample(self, count: int) -> Tensor:
        """The first images, normalised and without augmentation: (count, 3, 32, 32)."""
        middle = slice(self.recipe.shift, self.recipe.shift + INPUT_SIZE)
        return normalise(self.images[:count, :, middle, middle])

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """This process's share of each batch, followed by outliers.

        Yields normalised images (batch + outliers, 3, 32, 32), targets (batch + outliers, classes) and the
        images' indices (batch,). Even epochs mirror one random half of the images, odd epochs the other half,
        so two epochs together show each image both ways.
        """
        count, recipe, device = len(self.labels), self.recipe, self.device
        generator = torch.Generator().manual_seed(self._seed(number + 1))
        rank = distributed.rank()
        outlier_generator = torch.Generator(device).manual_seed(self._seed(number + 1) + 10_007 * rank)
        order = torch.randperm(count, generator=generator).to(device)
        places = torch.randint(2 * recipe.shift + 1, (2, count), generator=generator).to(device)
        holes = torch.randint(INPUT_SIZE - recipe.cutout + 1, (2, count), generator=generator).to(device)
        mirrored = (self.mirrored_first ^ bool(number % 2)).to(device)
        crops = self.images.unfold(2, INPUT_SIZE, 1).unfold(3, INPUT_SIZE, 1)  # (count, 3, y, x, 32, 32)
        for batch in order.chunk(len(self)):
            indices = batch[rank :: distributed.size()]
            images = crops[indices, :, places[0, indices], places[1, indices]]  # (batch, 3, 32, 32)
            images = torch.where(mirrored[indices].view(-1, 1, 1, 1), images.flip(3), images)
            images = normalise(images)
            if recipe.cutout:
                images = cut_out(images, holes[:, indices], recipe.cutout)
            targets = self._find_targets(images, indices)
            outliers = make_training_outliers(math.ceil(OUTLIERS * len(images)), outlier_generator)
            uniform = 1 / self.classes  # an outlier belongs to no class
            targets = F.pad(targets, (0, 0, 0, len(outliers)), value=uniform)
            yield torch.cat((images, normalise(outliers))), targets, indices

    def _find_targets(self, images: Tensor, indices: Tensor) -> Tensor:
        """The smoothed labels, or the teacher's probabilities for these crops: (batch, classes)."""
        if self.teacher is None:
            labels = F.one_hot(self.labels[indices], self.classes)
            return labels * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / self.classes
        with torch.no_grad():
            return forward(self.teacher, images).softmax(1)

    def _seed(self, number: int) -> int:
        """The seed of `number`: 0 is for the mirrored half, 1 for the first epoch."""
        return self.seed * 100_003 + number


def normalise(images: Tensor) -> Tensor:
    """Normalise pixels from 0 to 255 (batch, 3, height, width); returns floats, channels last in memory."""
    mean, std = _mean_and_std(images.device)
    return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@cache
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """Each (1, 3, 1, 1). Cached, because a copy to a GPU waits until the GPU has finished its work."""
    return torch.tensor(MEAN).to(device).view(1, 3, 1, 1), torch.tensor(STD).to(device).view(1, 3, 1, 1)


def cut_out(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Blank one square in each image. `corners` (2, batch) are the squares' top rows and left columns."""
    line = torch.arange(INPUT_SIZE, device=images.device)
    inside = (line >= corners[:, :, None]) & (line < corners[:, :, None] + side)  # (2, batch, 32)
    return images.masked_fill(inside[0, :, None, :, None] & inside[1, :, None, None, :], 0)
