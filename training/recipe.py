"""From images to a trained network: three recipes, read top to bottom.

fast, 2.0M parameters, 10 epochs: 90.09% single view, 90.78% six views, 511 s.
balanced, 4.0M parameters, 22 epochs, accurate as its teacher: 91.63% and 92.31%, 3,409 s; this one ships.
accurate, 9.9M parameters, 18 epochs: 91.98% and 93.05%, 3,800 s; with that one as its teacher, 28 epochs:
92.59% and 93.05%, about 2 hours by its undisturbed epochs.
Each n = 1, on two cores of an AMD EPYC with AVX-512 BF16 and no AMX.

On the JPEG copy of CIFAR-10; training/LOG.md has every run, those that failed, too. "Single view" is one
forward pass, as served; "six views" averages shifted and mirrored copies.

Where the tricks come from: frozen patch whitening and Dirac initialisation (model.py), label smoothing
(Szegedy et al., CVPR 2016), reflect-padded random crops, alternating flip, learning rates decoupled from
weight decay and momentum, a scaled learning rate for the biases (Keller Jordan, airbench,
arXiv:2404.00498), cutout (DeVries & Taylor, arXiv:1708.04552), Nesterov SGD (Sutskever et al., ICML 2013),
Muon for the filters (model.py), look-ahead (Zhang et al., NeurIPS 2019), distillation (Hinton et al.,
arXiv:1503.02531) of each crop anew (Beyer et al., CVPR 2022), by a network of its own kind, too (born-again
networks, Furlanello et al., ICML 2018), pictures of nothing (outlier exposure, Hendrycks et al., ICLR 2019).
Left out on purpose: hard examples chosen by a proxy network (docs/decisions/0015).
"""

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoints
from training.data import Split
from training.errors import Diverged
from training.hardware import describe, forward
from training.model import INPUT_SIZE, Muon, Net
from training.report import Epoch, Report


@dataclass(frozen=True)
class Recipe:
    """What tells one recipe from another; all else is the same for all."""

    name: str
    widths: tuple[int, int, int]  # channels of the three groups
    depth: int  # convolutions in a group
    epochs: int
    shift: int  # pixels, each way, of the random crop
    padding: int = 0  # of the whitening, so that no border is lost
    cutout: int = 0  # side of the square that is blanked; 0 is none
    lookahead: bool = False
    clouds: float = 0.06  # pictures of nothing for each image, which are to look like no class


FAST = Recipe("fast", widths=(64, 256, 256), depth=2, epochs=10, shift=2)
BALANCED = Recipe(
    "balanced",
    widths=(64, 256, 320),
    depth=3,
    padding=1,
    epochs=22,
    shift=4,
    cutout=8,
    lookahead=True,
)
ACCURATE = Recipe(
    "accurate",
    widths=(128, 384, 512),
    depth=3,
    padding=1,
    epochs=18,
    shift=4,
    cutout=10,
    lookahead=True,
)
RECIPES = {recipe.name: recipe for recipe in (FAST, BALANCED, ACCURATE)}

BATCH_SIZE = 2000
SMALL_BATCH_SIZE, STEPS = 100, 20  # of less data the batches are smaller, so that an epoch has some steps
LABEL_SMOOTHING = 0.2
BIAS_LR, HEAD_LR, FILTER_LR = 0.053, 0.67, 0.24
SGD_MOMENTUM, MUON_MOMENTUM = 0.85, 0.6
WEIGHT_DECAY = 2e-6 * BATCH_SIZE  # of biases and head; Muon keeps the norm of the filters itself
WHITEN_BIAS_EPOCHS = 3  # then it is frozen
LOOKAHEAD_STEPS = 5
CLOUD_GRIDS = (1, 2, 3, 5, 8, 16, 32)
CODE = (Path(__file__), Path(__file__).with_name("model.py"))
MEAN = torch.tensor([0.4914, 0.4822, 0.4465])
STD = torch.tensor([0.2470, 0.2435, 0.2616])


@dataclass(frozen=True)
class Task:
    """What to train, and on which images. The same task gives the same run."""

    recipe: Recipe
    epochs: int
    seed: int
    train: Split
    validation: Split
    data: str  # the data set's fingerprint
    classes: int
    teacher: nn.Module | None = None  # normalised images to logits, to be learned instead of the labels

    @property
    def identity(self) -> str:
        """Tells runs apart that must not resume each other, those of other code, too."""
        asked = f"{self.recipe} {self.epochs} {self.seed} {self.data} {len(self.train)}"
        digest = hashlib.sha256(asked.encode())
        for file in CODE:
            digest.update(file.read_bytes())
        for weights in self.teacher.state_dict().values() if self.teacher else ():
            digest.update(weights.cpu().numpy().tobytes())
        return f"{self.recipe.name}-{digest.hexdigest()[:12]}"


@dataclass(frozen=True)
class Fitted:
    """A trained network, in evaluation mode, and how it got there."""

    net: Net
    curve: list[Epoch]
    seconds: float  # of training steps, before a resumption, too: no warm-up, validation or checkpoint
    ended: str  # when the last epoch did, ISO 8601; the same when the run is resumed after that


def fit(task: Task, device: torch.device, report: Report, checkpoint: Path | None = None) -> Fitted:
    """Train a fresh network.

    At the end of each epoch `checkpoint`, if given, is written; one that is there is resumed. Under
    torchrun each process takes its share of every batch. Raises OtherRun, Diverged.
    """
    torch.backends.cudnn.benchmark = True
    batches = Batches(task, device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # for Muon, which needs no more than TF32
        report.phase("warming up")
        warm_up(task, batches)
        torch.cuda.synchronize(device)
    begun = time.monotonic()
    torch.manual_seed(task.seed)
    net = build(task, batches)
    steps, whiten_steps = task.epochs * len(batches), WHITEN_BIAS_EPOCHS * len(batches)
    progress = Progress(net, steps, whiten_steps, Lookahead(net) if task.recipe.lookahead else None)
    curve: list[Epoch] = []
    trained, ended = time.monotonic() - begun, ""
    if checkpoint and (state := checkpoints.load(checkpoint, task.identity)):
        net.load_state_dict(state["net"])
        progress.load_state_dict(state["progress"])
        curve = [Epoch(**e) for e in state["curve"]]
        trained, ended = state["seconds"], state["ended"]
    report.phase("training")
    report.begin(task.epochs, len(batches), curve, describe(device))
    for number in range(len(curve), task.epochs):
        started = time.monotonic()
        loss_sum, correct, count = train_epoch(net, batches, number, progress, report)
        if not math.isfinite(loss_sum):
            raise Diverged(f"in epoch {number + 1} the loss became infinite; try another seed")
        seconds = time.monotonic() - started
        trained += seconds
        epoch = Epoch(
            number=number + 1,
            loss=loss_sum / count,
            accuracy=correct / count,
            validation_accuracy=accuracy(net, task.validation, device),
            learning_rate=progress.filter_lr,
            images_per_second=count / seconds,
            seconds_left=(time.monotonic() - started) * (task.epochs - number - 1),
        )
        curve.append(epoch)
        ended = datetime.now(UTC).isoformat(timespec="milliseconds")
        if checkpoint and is_first_process():
            state = {
                "net": net.state_dict(),
                "progress": progress.state_dict(),
                "curve": [asdict(epoch) for epoch in curve],
                "seconds": trained,
                "ended": ended,
            }
            checkpoints.save(checkpoint, task.identity, state)
        report.epoch(epoch)
    return Fitted(net.eval(), curve, trained, ended)


def train_epoch(
    net: Net, batches: "Batches", number: int, progress: "Progress", report: Report
) -> list[float]:
    """One epoch of steps: the sum of the images' losses, how many were right, how many there were."""
    totals = torch.zeros(3, device=batches.device)
    net.train()
    for images, targets, indices in batches.epoch(number):
        loss, logits = losses(net, images, targets)
        loss.sum().backward()
        synchronise(net)
        progress.step()
        count = len(indices)  # the pictures of nothing come after
        totals[0] += loss.detach()[:count].sum()
        totals[1] += (logits[:count].argmax(1) == batches.labels[indices]).sum()
        totals[2] += count
        report.step()
    if dist.is_initialized():
        dist.all_reduce(totals)
    return totals.tolist()


def warm_up(task: Task, batches: "Batches") -> None:
    """Take a step with a network that is thrown away: a GPU's libraries start, and cuDNN looks for its
    fastest algorithms, which takes seconds."""
    net = build(task, batches)
    images, targets, _ = next(batches.epoch(0))
    loss, _ = losses(net, images, targets)
    loss.sum().backward()
    synchronise(net)
    Progress(net, steps=1, whiten_steps=1).step()


def build(task: Task, batches: "Batches") -> Net:
    recipe = task.recipe
    net = Net(task.classes, recipe.widths, recipe.depth, recipe.padding).to(batches.device)
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore
    net.set_whitening(batches.sample(5000))
    return net


def losses(net: Net, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's loss (batch,) and logits (batch, classes)."""
    logits = forward(net, images)
    return F.cross_entropy(logits, targets, reduction="none"), logits


def smooth(labels: Tensor, classes: int) -> Tensor:
    """Label smoothing: targets (images, classes) of labels (images,)."""
    return F.one_hot(labels, classes) * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / classes


def accuracy(net: Net, split: Split, device: torch.device) -> float:
    net.eval()
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(split), BATCH_SIZE):
            images = torch.from_numpy(split.images[start : start + BATCH_SIZE]).to(device)
            labels = torch.from_numpy(split.labels[start : start + BATCH_SIZE]).to(device)
            logits = forward(net, normalise(images.permute(0, 3, 1, 2)))
            correct += int((logits.argmax(1) == labels).sum())
    return correct / len(split)


class Batches:
    """Shuffled, augmented batches. The images stay on the device as uint8, padded by reflection.

    An epoch depends on the seed and its number alone, so a resumed run sees the crops that it would have
    seen.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self.recipe, self.seed, self.classes, self.device = task.recipe, task.seed, task.classes, device
        self.teacher = task.teacher.to(device) if task.teacher else None
        pad = self.recipe.shift
        padded = np.pad(task.train.images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
        self.images = torch.from_numpy(padded).to(device).permute(0, 3, 1, 2)  # (count, 3, 32 + 2 pad, ...)
        self.labels = torch.from_numpy(task.train.labels).to(device)
        self.mirrored_first = (
            torch.rand(len(padded), generator=torch.Generator().manual_seed(self._seed(0))) < 0.5
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        size = min(BATCH_SIZE, max(SMALL_BATCH_SIZE, len(self.labels) // STEPS))
        return math.ceil(len(self.labels) / size)

    def sample(self, count: int) -> Tensor:
        """The first images, as they are, normalised: (count, 3, 32, 32)."""
        middle = slice(self.recipe.shift, self.recipe.shift + INPUT_SIZE)
        return normalise(self.images[:count, :, middle, middle])

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """This process's share of an epoch, with pictures of nothing after the images of each batch:
        normalised images (batch + some, 3, 32, 32), targets (batch + some, classes), indices (batch,).

        Flips alternate: a random half is mirrored in the first epoch, the other half in the second, and
        so on, so that two epochs together show each image both ways.
        """
        count, recipe, device = len(self.labels), self.recipe, self.device
        generator = torch.Generator().manual_seed(self._seed(number + 1))
        rank = dist.get_rank() if dist.is_initialized() else 0
        cloud_generator = torch.Generator(device).manual_seed(self._seed(number + 1) + 10_007 * rank)
        order = torch.randperm(count, generator=generator).to(device)
        places = torch.randint(2 * recipe.shift + 1, (2, count), generator=generator).to(device)
        holes = torch.randint(INPUT_SIZE - recipe.cutout + 1, (2, count), generator=generator).to(device)
        mirrored = (self.mirrored_first ^ bool(number % 2)).to(device)
        crops = self.images.unfold(2, INPUT_SIZE, 1).unfold(3, INPUT_SIZE, 1)  # (count, 3, y, x, 32, 32)
        for indices in order.chunk(len(self)):
            if dist.is_initialized():
                indices = indices[rank :: dist.get_world_size()]
            images = crops[indices, :, places[0, indices], places[1, indices]]  # (batch, 3, 32, 32)
            images = torch.where(mirrored[indices].view(-1, 1, 1, 1), images.flip(3), images)
            images = normalise(images)
            if recipe.cutout:
                images = cut_out(images, holes[:, indices], recipe.cutout)
            clouds = make_clouds(math.ceil(recipe.clouds * len(images)), cloud_generator)
            targets = F.pad(self._answers(images, indices), (0, 0, 0, len(clouds)), value=1 / self.classes)
            yield torch.cat((images, clouds)), targets, indices

    def _answers(self, images: Tensor, indices: Tensor) -> Tensor:
        """What is to be learned (batch, classes): the labels, smoothed, or what the teacher says of these
        very crops."""
        if self.teacher is None:
            return smooth(self.labels[indices], self.classes)
        with torch.no_grad():
            return forward(self.teacher, images).softmax(1)

    def _seed(self, number: int) -> int:
        """0 is for the whole run, 1 for its first epoch."""
        return self.seed * 100_003 + number


def normalise(images: Tensor) -> Tensor:
    """uint8 (batch, 3, height, width) to floats, channels last in memory."""
    mean, std = _mean_and_std(images.device)
    return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@cache
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """Each (1, 3, 1, 1); copied once, since a copy to a GPU waits for all that it has to do."""
    return MEAN.to(device).view(1, 3, 1, 1), STD.to(device).view(1, 3, 1, 1)


def cut_out(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Blank one square of each image; corners: (2, batch), the top rows and the left columns."""
    line = torch.arange(INPUT_SIZE, device=images.device)
    inside = (line >= corners[:, :, None]) & (line < corners[:, :, None] + side)  # (2, batch, 32)
    return images.masked_fill(inside[0, :, None, :, None] & inside[1, :, None, None, :], 0)


def make_clouds(count: int, generator: torch.Generator) -> Tensor:
    """Pictures of nothing (count, 3, 32, 32), normalised: random colours on grids of 1 to 32 cells a side,
    enlarged, that is from plain colours over clouds to noise, and of any contrast."""
    device, each = generator.device, math.ceil(count / len(CLOUD_GRIDS))
    chosen = torch.randperm(each * len(CLOUD_GRIDS), generator=generator, device=device)[:count]
    grids = [torch.randint(256, (each, 3, n, n), generator=generator, device=device) for n in CLOUD_GRIDS]
    clouds = [F.interpolate(grid.float(), INPUT_SIZE, mode="bilinear") for grid in grids]
    colours = torch.randint(256, (count, 3, 1, 1), generator=generator, device=device).float()
    contrasts = torch.rand((count, 1, 1, 1), generator=generator, device=device)
    return normalise(colours.lerp(torch.cat(clouds)[chosen], contrasts))


class Progress:
    """The optimizers, the learning rates that fall linearly to zero under them, and the look-ahead."""

    def __init__(self, net: Net, steps: int, whiten_steps: int, lookahead: "Lookahead | None" = None) -> None:
        def group(params: list[Any], lr: float) -> dict[str, Any]:
            return {"params": params, "lr": lr, "initial_lr": lr, "weight_decay": WEIGHT_DECAY / lr}

        named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
        biases = group([p for name, p in named if "norm" in name], BIAS_LR)
        groups = [group([net.whiten.bias], BIAS_LR), biases, group([net.head.weight], HEAD_LR)]
        self.sgd = torch.optim.SGD(groups, momentum=SGD_MOMENTUM, nesterov=True)
        self.muon = Muon([p for _, p in named if p.ndim == 4], lr=FILTER_LR, momentum=MUON_MOMENTUM)
        self.steps, self._total, self._whiten_total = 0, steps, whiten_steps
        self.lookahead = lookahead

    @property
    def share(self) -> float:
        """How much of the run is done, 0 to 1."""
        return self.steps / self._total

    @property
    def filter_lr(self) -> float:
        return self.muon.param_groups[0]["lr"]

    def step(self) -> None:
        for group in self.sgd.param_groups:
            group["lr"] = group["initial_lr"] * (1 - self.share)
        whiten = self.sgd.param_groups[0]
        whiten["lr"] = BIAS_LR * max(0.0, 1 - self.steps / max(1, self._whiten_total))
        self.muon.param_groups[0]["lr"] = FILTER_LR * (1 - self.share)
        for optimizer in (self.sgd, self.muon):
            optimizer.step()
            optimizer.zero_grad()
        self.steps += 1
        if self.lookahead and self.steps % LOOKAHEAD_STEPS == 0:
            self.lookahead.update(self.share)
        if self.lookahead and self.steps == self._total:
            self.lookahead.finish()

    def state_dict(self) -> dict[str, Any]:
        slow = self.lookahead and self.lookahead.slow
        return {
            "sgd": self.sgd.state_dict(), "muon": self.muon.state_dict(), "slow": slow, "steps": self.steps,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sgd.load_state_dict(state["sgd"])
        self.muon.load_state_dict(state["muon"])
        if self.lookahead:
            slow = self.lookahead.slow
            self.lookahead.slow = {name: value.to(slow[name].device) for name, value in state["slow"].items()}
        self.steps = state["steps"]


class Lookahead:
    """Slow weights that follow the network's and pull it back, more so as the run goes on."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self.slow = {name: value.clone() for name, value in self._floats()}

    def update(self, share: float) -> None:
        self._pull(0.95**LOOKAHEAD_STEPS * share**3)

    def finish(self) -> None:
        self._pull(1.0)

    def _pull(self, decay: float) -> None:
        for name, value in self._floats():
            value.copy_(self.slow[name].lerp_(value, 1 - decay))

    def _floats(self) -> list[tuple[str, Tensor]]:
        return [(name, t) for name, t in self._net.state_dict().items() if t.is_floating_point()]


def synchronise(net: Net) -> None:
    """Under torchrun: sum the gradients and average the batch norms' statistics, in one exchange, so that
    every process takes the same step."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    statistics = [b for b in net.buffers() if b.is_floating_point()]
    flat = torch.cat([t.flatten() for t in (*gradients, *statistics)])
    dist.all_reduce(flat)
    sizes = [t.numel() for t in (*gradients, *statistics)]
    for tensor, part in zip((*gradients, *statistics), flat.split(sizes), strict=True):
        tensor.copy_(part.view_as(tensor))
    for tensor in statistics:
        tensor /= dist.get_world_size()


def is_first_process() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0
