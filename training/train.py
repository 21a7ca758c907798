"""Train the speed-run CNN and publish it.

Read top to bottom: a run is eight epochs of batches of 2,000, alternating flips and two-pixel
shifts, label smoothing, learning rates that fall linearly to zero. Measured results are in LOG.md.
"""

import argparse
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from training import data, evaluate, export
from training.model import INPUT_SIZE, Muon, Net

BATCH_SIZE = 2000
LABEL_SMOOTHING = 0.2
SHIFT = 2  # pixels, each way
BIAS_LR, HEAD_LR, FILTER_LR = 0.053, 0.67, 0.24
WEIGHT_DECAY = 2e-6 * BATCH_SIZE
WHITEN_BIAS_EPOCHS = 3
HELD_OUT = 1000  # training images kept back to fit the temperature
MEAN = torch.tensor([0.4914, 0.4822, 0.4465])
STD = torch.tensor([0.2470, 0.2435, 0.2616])


@dataclass(frozen=True)
class Options:
    data: Path | None
    name: str | None
    models: Path
    cache: Path
    epochs: int
    seed: int
    activate: bool


def main() -> int:
    options = parse_options()
    try:
        artifact = run(options)
    except data.DataError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    print(f"published {artifact}")
    if options.activate:
        export.activate(artifact)
        print("it is the active model; a worker that starts now serves it")
    else:
        print(f"to serve it: echo {artifact.name} > {artifact.parent / 'active'}, then restart the worker")
    return 0


def parse_options() -> Options:
    parser = argparse.ArgumentParser(prog="make train", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder, .tar or .zip with train/ and test/ [CIFAR-10]")
    parser.add_argument("--name", help="what the card calls the data [the file's name]")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where artifacts are published")
    parser.add_argument("--cache", type=Path, default=Path(".local/data"), help="where data is unpacked")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--activate", action="store_true", help="make the new model the one served")
    return Options(**vars(parser.parse_args()))


def run(options: Options) -> Path:
    """Train, evaluate and publish; returns the artifact's folder."""
    dataset = data.load(options.data, options.cache)
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half = has_fast_bfloat16(device)
    torch.backends.cudnn.benchmark = True

    order = np.random.default_rng(options.seed).permutation(len(dataset.train))
    held_out = min(HELD_OUT, len(order) // 10)
    kept, fitted = order[held_out:], order[:held_out]
    train = data.Split(dataset.train.images[kept], dataset.train.labels[kept])

    started = time.monotonic()
    net = fit(train, len(dataset.classes), options.epochs, device, half=half)
    seconds = time.monotonic() - started

    model, temperature = calibrate(net, dataset.train.images[fitted], dataset.train.labels[fitted], device)
    card = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": dataset.classes,
        "input_size": INPUT_SIZE,
        "temperature": round(temperature, 4),
        **measure(model, dataset, options.name or dataset.name, device),
        "training": {
            "preset": "speed-run",
            "source": "airbench94 with Muon (Keller Jordan), https://github.com/KellerJordan/cifar10-airbench",
            "epochs": options.epochs,
            "seed": options.seed,
            "seconds": round(seconds, 1),
            "precision": "bfloat16" if half else "float32",
            "hardware": describe_hardware(device),
            "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow")}
            | {"python": platform.python_version()},
        },
    }
    return export.publish(model, card, options.models)


def fit(train: data.Split, classes: int, epochs: int, device: torch.device, *, half: bool) -> Net:
    """Train a fresh network on `train`; returns it in evaluation mode."""
    net = Net(classes).to(device).to(memory_format=torch.channels_last)  # pyright: ignore
    sample = normalise(torch.from_numpy(train.images[:5000]).to(device).permute(0, 3, 1, 2))
    net.set_whitening(sample)
    batches = Batches(train, device)
    steps, whiten_steps = epochs * len(batches), WHITEN_BIAS_EPOCHS * len(batches)
    optimizers = build_optimizers(net)
    step = 0
    with tqdm(total=steps, desc="training", unit="step") as progress:
        for epoch in range(epochs):
            net.train()
            for images, labels in batches.epoch(epoch):
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    logits = net(images)
                loss = F.cross_entropy(
                    logits.float(), labels, label_smoothing=LABEL_SMOOTHING, reduction="sum"
                )
                loss.backward()
                net.whiten.bias.requires_grad = step + 1 < whiten_steps  # pyright: ignore
                decay_learning_rates(optimizers, step, steps, whiten_steps)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                step += 1
                correct = (logits.argmax(1) == labels).float().mean()
                progress.set_postfix(
                    epoch=epoch + 1,
                    loss=f"{loss.item() / len(labels):.3f}",
                    accuracy=f"{correct:.1%}",
                    refresh=False,
                )
                progress.update()
    return net.eval()


def build_optimizers(net: Net) -> list[torch.optim.Optimizer]:
    """SGD for biases and head, Muon for the filters; the whitening bias is SGD's first group."""
    filters = [p for p in net.parameters() if p.ndim == 4 and p.requires_grad]
    norm_biases = [p for name, p in net.named_parameters() if "norm" in name and p.requires_grad]

    def group(params: list[Any], lr: float) -> dict[str, Any]:
        return {"params": params, "lr": lr, "weight_decay": WEIGHT_DECAY / lr}

    sgd = torch.optim.SGD(
        [group([net.whiten.bias], BIAS_LR), group(norm_biases, BIAS_LR), group([net.head.weight], HEAD_LR)],
        momentum=0.85,
        nesterov=True,
    )
    optimizers: list[torch.optim.Optimizer] = [sgd, Muon(filters, lr=FILTER_LR, momentum=0.6)]
    for parameters in (group for optimizer in optimizers for group in optimizer.param_groups):
        parameters["initial_lr"] = parameters["lr"]
    return optimizers


def decay_learning_rates(
    optimizers: list[torch.optim.Optimizer], step: int, steps: int, whiten_steps: int
) -> None:
    """Linearly to zero; the whitening bias gets there after its first epochs and stays."""
    whiten, *others = [group for optimizer in optimizers for group in optimizer.param_groups]
    whiten["lr"] = whiten["initial_lr"] * max(0.0, 1 - step / whiten_steps)
    for group in others:
        group["lr"] = group["initial_lr"] * (1 - step / steps)


class Batches:
    """Shuffled, augmented batches of normalised images (batch, 3, 32, 32) and labels (batch,).

    Flips alternate: a random half is mirrored in the first epoch, the other half in the second,
    and so on, so that two epochs together show each image both ways.
    """

    def __init__(self, split: data.Split, device: torch.device) -> None:
        padded = np.pad(split.images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="reflect")
        self.images = torch.from_numpy(padded).to(device).permute(0, 3, 1, 2)  # (count, 3, 36, 36)
        self.labels = torch.from_numpy(split.labels).to(device)
        self.mirrored_first = torch.rand(len(split), device=device) < 0.5

    def __len__(self) -> int:
        return -(-len(self.labels) // BATCH_SIZE)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.labels), device=self.labels.device)
        mirrored = self.mirrored_first ^ bool(number % 2)
        for indices in order.chunk(len(self)):
            images = random_crop(self.images[indices], INPUT_SIZE)
            images = torch.where(mirrored[indices].view(-1, 1, 1, 1), images.flip(3), images)
            yield normalise(images), self.labels[indices]


def random_crop(images: Tensor, size: int) -> Tensor:
    """One crop of (size, size) at a random place of each image (batch, channels, height, width)."""
    positions = images.unfold(2, size, 1).unfold(3, size, 1)  # (batch, channels, rows, columns, size, size)
    count, rows, columns = len(images), positions.shape[2], positions.shape[3]
    row = torch.randint(rows, (count,), device=images.device)
    column = torch.randint(columns, (count,), device=images.device)
    return positions[torch.arange(count, device=images.device), :, row, column]


def normalise(images: Tensor) -> Tensor:
    """uint8 (batch, 3, height, width) to floats, channels last in memory."""
    mean, std = (t.to(images.device).view(1, 3, 1, 1) for t in (MEAN, STD))
    return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def calibrate(
    net: Net, images: data.Images, labels: data.Labels, device: torch.device
) -> tuple[torch.nn.Sequential, float]:
    """The network as served and its temperature, fitted on images that it was not trained on."""
    model = export.fold(net, MEAN.to(device), STD.to(device), temperature=1.0)
    logits = torch.from_numpy(evaluate.predict(model[:-1], images, device))
    temperature = evaluate.fit_temperature(logits, torch.from_numpy(labels))
    return export.fold(net, MEAN.to(device), STD.to(device), temperature), temperature


def measure(
    model: torch.nn.Sequential, dataset: data.Dataset, name: str, device: torch.device
) -> dict[str, Any]:
    """The card's figures on the test images: single view as served, and with augmentation."""
    test = dataset.test
    probabilities = evaluate.predict(model, test.images, device)
    augmented = evaluate.predict(evaluate.six_views(model[:-1]), test.images, device)
    confusion = evaluate.confusion_matrix(probabilities, test.labels)
    return {
        "data": {
            "name": name,
            "train_images": len(dataset.train),
            "held_out": min(HELD_OUT, len(dataset.train) // 10),
            "test_images": len(test),
            "sha256": dataset.fingerprint(),
        },
        "accuracy": round(evaluate.accuracy(probabilities, test.labels), 4),
        "accuracy_six_views": round(evaluate.accuracy(augmented, test.labels), 4),
        "calibration_error": round(evaluate.calibration_error(probabilities, test.labels), 4),
        "class_accuracy": {
            name: round(float(row[index] / max(1, row.sum())), 4)
            for index, (name, row) in enumerate(zip(dataset.classes, confusion, strict=True))
        },
        "confusion": confusion.tolist(),
    }


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions run on matrix units here."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(unit, False) for unit in ("amx_bf16", "avx512_bf16"))


def describe_hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return (
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {platform.machine()}"
    )


if __name__ == "__main__":
    sys.exit(main())
