"""The training loop: from a plan to a trained network."""

import math
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training import checkpoints, distributed
from training.batches import Batches, normalise
from training.data import Split
from training.errors import Diverged
from training.hardware import describe, forward
from training.model import Net
from training.optimizers import Optimizers
from training.plan import TrainingPlan
from training.recipe import BATCH_SIZE, WHITEN_BIAS_EPOCHS
from training.report import Epoch, Report


@dataclass
class Fitted:
    """A network and how it was trained. A checkpoint keeps it after each epoch."""

    net: Net
    curve: list[Epoch]
    seconds: float  # of training alone, without copying images, warming up, validation and checkpoints
    ended: str = ""  # when the last epoch ended, as ISO 8601

    def state_dict(self) -> dict[str, Any]:
        curve = [asdict(epoch) for epoch in self.curve]
        return {"net": self.net.state_dict(), "curve": curve, "seconds": self.seconds, "ended": self.ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.curve = [Epoch(**epoch) for epoch in state["curve"]]
        self.seconds, self.ended = state["seconds"], state["ended"]


def fit(plan: TrainingPlan, device: torch.device, report: Report, checkpoint: Path | None = None) -> Fitted:
    """Train a new network, which is returned in evaluation mode.

    The file `checkpoint` is written at the end of each epoch. If it exists, the run resumes from it. Under
    torchrun each process trains on its share of every batch. Raises OtherRun, Diverged.
    """
    torch.backends.cudnn.benchmark = True
    batches = Batches(plan, device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # the optimizers need only TF32
        report.phase("warming up")
        warm_up(plan, batches)
        torch.cuda.synchronize(device)
    started = time.monotonic()
    torch.manual_seed(plan.seed)
    net = build(plan, batches)
    steps, whiten_steps = plan.epochs * len(batches), WHITEN_BIAS_EPOCHS * len(batches)
    optimizers = Optimizers(net, steps, whiten_steps, lookahead=plan.recipe.lookahead)
    fitted = Fitted(net, [], time.monotonic() - started)
    if checkpoint and (state := checkpoints.load(checkpoint, plan.identity)):
        fitted.load_state_dict(state["fitted"])
        optimizers.load_state_dict(state["optimizers"])
    report.phase("training")
    report.begin(plan.epochs, len(batches), fitted.curve, describe(device))
    for number in range(len(fitted.curve), plan.epochs):
        started = time.monotonic()
        loss_sum, correct, count = train_epoch(net, batches, number, optimizers, report)
        if not math.isfinite(loss_sum):
            raise Diverged(f"The loss is infinite or not a number in epoch {number + 1}. Try another seed.")
        seconds = time.monotonic() - started
        epoch = Epoch(
            number=number + 1,
            loss=loss_sum / count,
            accuracy=correct / count,
            validation_accuracy=accuracy(net, plan.validation, device),
            learning_rate=optimizers.filter_lr,
            images_per_second=count / seconds,
            seconds_left=(time.monotonic() - started) * (plan.epochs - number - 1),
        )
        fitted.seconds += seconds
        fitted.curve.append(epoch)
        fitted.ended = datetime.now(UTC).isoformat(timespec="milliseconds")
        if checkpoint and distributed.rank() == 0:
            state = {"fitted": fitted.state_dict(), "optimizers": optimizers.state_dict()}
            checkpoints.save(checkpoint, plan.identity, state)
        report.epoch(epoch)
    net.eval()
    return fitted


def build(plan: TrainingPlan, batches: Batches) -> Net:
    """The plan's network, before its first step."""
    recipe = plan.recipe
    net = Net(plan.classes, recipe.widths, recipe.depth, recipe.padding).to(batches.device)
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore
    net.set_whitening(batches.sample(5000))
    return net


def train_epoch(
    net: Net, batches: Batches, number: int, optimizers: Optimizers, report: Report
) -> list[float]:
    """Train for one epoch; returns the sum of losses, and the numbers of correct answers and images."""
    totals = torch.zeros(3, device=batches.device)
    net.train()
    for images, targets, indices in batches.epoch(number):
        losses, logits = step(net, optimizers, images, targets)
        count = len(indices)  # the outliers at the end do not count
        totals[0] += losses[:count].sum()
        totals[1] += (logits[:count].argmax(1) == batches.labels[indices]).sum()
        totals[2] += count
        report.step()
    distributed.add(totals)
    return totals.tolist()


def step(net: Net, optimizers: Optimizers, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Take one step; returns each image's loss (batch,) and logits (batch, classes) before the step."""
    logits = forward(net, images)
    losses = F.cross_entropy(logits, targets, reduction="none")
    losses.sum().backward()
    distributed.synchronise(net)
    optimizers.step()
    return losses.detach(), logits.detach()


def accuracy(net: Net, split: Split, device: torch.device) -> float:
    """The share of images that the network labels correctly."""
    net.eval()
    correct = 0
    batches = (torch.from_numpy(part).split(BATCH_SIZE) for part in (split.images, split.labels))
    with torch.inference_mode():
        for images, labels in zip(*batches, strict=True):
            logits = forward(net, normalise(images.to(device).permute(0, 3, 1, 2)))
            correct += int((logits.argmax(1) == labels.to(device)).sum())
    return correct / len(split)


def warm_up(plan: TrainingPlan, batches: Batches) -> None:
    """Take one step with a network that is thrown away.

    On a GPU the first step takes seconds, because libraries start and cuDNN looks for its fastest algorithms.
    """
    net = build(plan, batches)
    images, targets, _ = next(batches.epoch(0))
    step(net, Optimizers(net, steps=1, whiten_steps=1), images, targets)
