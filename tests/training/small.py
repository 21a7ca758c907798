"""The training command with small networks: `python -m tests.training.small`."""

import sys
from dataclasses import replace

import torch

from training import train
from training.recipe import ACCURATE, BALANCED, FAST, RECIPES

SMALL = {
    "fast": replace(FAST, widths=(16, 32, 32)),
    "balanced": replace(BALANCED, widths=(16, 32, 32)),
    "accurate": replace(ACCURATE, widths=(32, 64, 64), cutout=8),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    RECIPES.update(SMALL)
    sys.exit(train.main())
