"""One of the processes that torchrun starts: the training command with small networks.

Saves the network and the indices of this process's images in an epoch.
"""

import sys
from pathlib import Path

import torch

from tests.training.small import SMALL
from training import distributed, loop, train
from training.batches import Batches
from training.plan import TrainingPlan
from training.recipe import RECIPES
from training.report import Report

FOLDER = Path(sys.argv.pop(1))
fit = loop.fit


def fit_and_save(plan: TrainingPlan, device: torch.device, report: Report, checkpoint: Path) -> loop.Fitted:
    fitted = fit(plan, device, report, checkpoint)
    seen = [index for _, _, indices in Batches(plan, device).epoch(0) for index in indices.tolist()]
    torch.save({"net": fitted.net.state_dict(), "seen": seen}, FOLDER / f"{distributed.rank()}.pt")
    return fitted


if __name__ == "__main__":
    RECIPES.update(SMALL)
    loop.fit = fit_and_save
    sys.exit(train.main())
