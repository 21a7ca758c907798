"""One of the processes that torchrun starts: trains its share, and keeps the network that it ends with and
which images an epoch shows it."""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from tests.training.test_recipe import SMALL, make_task
from training import recipe
from training.report import Silent

if __name__ == "__main__":
    dist.init_process_group("gloo")
    images = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), dtype=np.uint8)
    task = make_task(SMALL, images, np.arange(400) % 2)
    fitted = recipe.fit(task, torch.device("cpu"), Silent())
    epoch = recipe.Batches(task, torch.device("cpu")).epoch(0)
    seen = [index for _, _, indices in epoch for index in indices.tolist()]
    kept = {"net": fitted.net.state_dict(), "seen": seen}
    torch.save(kept, Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()
