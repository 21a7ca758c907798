"""Outliers, which belong to no class: some to train on (outlier exposure), others to measure detection."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data import Images
from training.model import INPUT_SIZE

GRIDS = (1, 2, 3, 5, 8, 16, 32)  # cells a side: 1 gives a plain colour, 32 gives noise
MAX_TEST_OUTLIERS = 1000
TILE = 8
FAINT = 0.15  # Noise of 210 x 210 pixels keeps 32/210 of its contrast when scaled to 32 x 32.


def make_training_outliers(count: int, generator: torch.Generator) -> Tensor:
    """Grids of random colours, enlarged, each with a random contrast: floats 0 to 255 (count, 3, 32, 32)."""
    device, each = generator.device, math.ceil(count / len(GRIDS))
    chosen = torch.randperm(each * len(GRIDS), generator=generator, device=device)[:count]
    grids = [torch.randint(256, (each, 3, n, n), generator=generator, device=device) for n in GRIDS]
    enlarged = [F.interpolate(grid.float(), INPUT_SIZE, mode="bilinear") for grid in grids]
    colours = torch.randint(256, (count, 3, 1, 1), generator=generator, device=device).float()
    contrasts = torch.rand((count, 1, 1, 1), generator=generator, device=device)
    return colours.lerp(torch.cat(enlarged)[chosen], contrasts)


def make_test_outliers(images: Images, seed: int) -> dict[str, Images]:
    """Four kinds of outliers by name, each at most 1,000 images: uint8 (count, 32, 32, 3).

    "faint noise" has the contrast of a large noise image that was scaled down. "shuffled tiles" are some of
    `images`, cut into tiles of 8 by 8 pixels that are shuffled.
    """
    random = np.random.default_rng(seed)
    count, per_side = min(MAX_TEST_OUTLIERS, len(images)), INPUT_SIZE // TILE
    chosen = images[random.permutation(len(images))[:count]]  # at random: `images` may be sorted by class
    tiles = chosen.reshape(count, per_side, TILE, per_side, TILE, 3).swapaxes(2, 3)
    tiles = tiles.reshape(count, per_side**2, TILE, TILE, 3)
    shuffled = np.stack([image[random.permutation(per_side**2)] for image in tiles])
    shuffled = shuffled.reshape(count, per_side, per_side, TILE, TILE, 3).swapaxes(2, 3)
    noise = random.integers(0, 256, (count, INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)
    colours = random.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return {
        "noise": noise,
        "faint noise": (127.5 + FAINT * (noise - 127.5)).astype(np.uint8),
        "plain colours": np.broadcast_to(colours, noise.shape).copy(),
        "shuffled tiles": shuffled.reshape(noise.shape),
    }
