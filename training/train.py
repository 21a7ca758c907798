"""Train a network, calibrate it on images it has not seen, measure it, and publish it with its pictures.

An interrupted run goes on where it was when the same command is given again. On several GPUs:
torchrun --nproc-per-node 4 -m training.train ...
"""

import argparse
import logging
import os
import platform
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist

from training import data, evaluate, export, hardware, pictures, recipe
from training.data import Dataset, Split
from training.errors import CommandError, Diverged
from training.model import INPUT_SIZE
from training.recipe import RECIPES, Task
from training.report import JsonLines, Report, Silent, Terminal

# Training images for validation, temperature and energy threshold: a tenth, within these limits.
MIN_HELD_OUT, MAX_HELD_OUT = 20, 2000


@dataclass(frozen=True)
class Options:
    data: Path | None
    name: str | None
    models: Path
    cache: Path
    recipe: str
    epochs: int | None
    seed: int
    activation: Literal["better", "always", "never"]
    teacher: Path | None
    checkpoint: Path | None
    report: Literal["terminal", "json"]


def main() -> int:
    options = parse_options()
    logging.basicConfig(format="%(message)s")
    try:
        run(options, JsonLines() if options.report == "json" else Terminal())
    except CommandError as error:
        print(f"train: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("\ntrain: interrupted; the same command goes on from the last whole epoch", file=sys.stderr)
        return 130
    return 0


def parse_options() -> Options:
    parser = argparse.ArgumentParser(prog="make train", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder, .tar or .zip with train/ and test/ [CIFAR-10]")
    parser.add_argument("--name", help="what the card calls the data [the file's name]")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where artifacts are published")
    parser.add_argument("--cache", type=Path, default=Path(".local/data"), help="where data is unpacked")
    parser.add_argument("--recipe", choices=RECIPES, default="fast")
    parser.add_argument("--epochs", type=parse_count, help="[the recipe's own number]")
    parser.add_argument("--seed", type=parse_seed, default=0)
    parser.add_argument(
        "--activation",
        choices=("better", "always", "never"),
        default="better",
        help="serve it: if it beats the active model on the same test images, always, or never [better]",
    )
    parser.add_argument("--teacher", type=Path, help="learn what this published version answers to each crop")
    parser.add_argument("--checkpoint", type=Path, help="file to resume from [named by the run, in models/]")
    parser.add_argument("--report", choices=("terminal", "json"), default="terminal", help=argparse.SUPPRESS)
    return Options(**vars(parser.parse_args()))


def parse_count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError("a number from 1 to 1000, please")
    return int(text)


def parse_seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"a number from 0 to {2**31 - 1}, please")
    return int(text)


def run(options: Options, report: Report) -> Path | None:
    """Train, measure and publish; returns the artifact's folder, None but in the first process.

    Raises DataError, TeacherError, OtherRun, Diverged.
    """
    with processes() as device:
        if not recipe.is_first_process():
            report = Silent()
        report.phase("reading")
        dataset = data.load(options.data, options.cache)
        for left_out in dataset.left_out:
            report.note(f"left out, {left_out}")
        task = prepare(options, dataset)
        checkpoint = options.checkpoint or options.models / ".runs" / f"{task.identity}.checkpoint"
        try:
            fitted = recipe.fit(task, device, report, checkpoint)
        except Diverged:  # it would again, from there
            if options.checkpoint is None:  # one that was asked for is its owner's
                checkpoint.unlink(missing_ok=True)
            raise
        if not recipe.is_first_process():
            return None
        report.phase("evaluating")
        model, card, answers = finish(fitted, task, dataset, options, device)
        report.publishing()
        drawings = pictures.draw(answers, dataset.classes, fitted.curve)
        artifact = export.publish(model, card, drawings, options.models)
        if options.checkpoint is None:
            checkpoint.unlink(missing_ok=True)
        report.published(artifact, card)
        return artifact


@contextmanager
def processes() -> Generator[torch.device]:
    """This process's device; under torchrun, joined with the other processes."""
    if "RANK" not in os.environ:
        yield torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else None
    dist.init_process_group("nccl" if device else "gloo", device_id=device)
    try:
        yield device or torch.device("cpu")
    finally:
        dist.destroy_process_group()


def prepare(options: Options, dataset: Dataset) -> Task:
    """Hold images out, and say what is to be learned from the others. Raises TeacherError."""
    order = np.random.default_rng(options.seed).permutation(len(dataset.train))
    held_out, train = (
        Split(dataset.train.images[part], dataset.train.labels[part])
        for part in np.split(order, [max(MIN_HELD_OUT, min(MAX_HELD_OUT, len(order) // 10))])
    )
    chosen = RECIPES[options.recipe]
    teacher = None
    if options.teacher:
        teacher = export.read_teacher(options.teacher, dataset.classes, recipe.MEAN, recipe.STD)
    return Task(
        recipe=chosen,
        epochs=options.epochs or chosen.epochs,
        seed=options.seed,
        train=train,
        validation=held_out,
        data=dataset.fingerprint(),
        classes=len(dataset.classes),
        teacher=teacher,
    )


def finish(
    fitted: recipe.Fitted, task: Task, dataset: Dataset, options: Options, device: torch.device
) -> tuple[torch.nn.Sequential, dict[str, Any], evaluate.Answers]:
    """The network as served, its card, and its answers to the test images.

    Temperature and energy threshold are chosen on the held-out images; the test images only measure.
    """
    held_out, test = task.validation, dataset.test
    model = export.fold(fitted.net, recipe.MEAN.to(device), recipe.STD.to(device), temperature=1.0)
    logits = evaluate.predict(model[:-1], held_out.images, device)
    temperature = evaluate.fit_temperature(logits, held_out.labels)
    threshold = evaluate.fit_energy_threshold(logits / temperature)
    model = export.fold(fitted.net, recipe.MEAN.to(device), recipe.STD.to(device), temperature)
    answers = evaluate.Answers(evaluate.predict(model[:-1], test.images, device), test)
    card = {
        "created": fitted.ended,
        "activation": options.activation,
        "classes": dataset.classes,
        "input_size": INPUT_SIZE,
        "parameters": sum(p.numel() for p in model.parameters()),
        "temperature": float(f"{temperature:.4g}"),
        **measure(model[:-1], answers, dataset.classes, device),
        "unfamiliar": {
            "energy_threshold": round(threshold, 4),
            "flagged_test": share_above(evaluate.energies(answers.logits), threshold),
            "detected": {
                kind: share_above(evaluate.energies(evaluate.predict(model[:-1], images, device)), threshold)
                for kind, images in evaluate.make_outsiders(test.images, options.seed).items()
            },
        },
        "data": {
            "name": options.name or dataset.name,
            "train_images": len(dataset.train),
            "held_out": len(held_out),
            "test_images": len(test),
            "left_out": [asdict(note) for note in dataset.left_out],
            "sha256": dataset.fingerprint(),
            "test_sha256": dataset.test_fingerprint(),
        },
        "training": describe_training(fitted, task, options, device),
    }
    return model, card, answers


def measure(
    logits: torch.nn.Module, answers: evaluate.Answers, classes: Sequence[str], device: torch.device
) -> dict[str, Any]:
    """The card's figures of accuracy and calibration, of the test images that were answered."""
    test = answers.split
    six_views = evaluate.Answers(evaluate.predict(evaluate.six_views(logits), test.images, device), test)
    uploaded = Split(evaluate.as_uploaded(test.images), test.labels)
    after_upload = evaluate.Answers(evaluate.predict(logits, uploaded.images, device), uploaded)
    confusion = answers.confusion()
    return {
        "accuracy": round(answers.accuracy(), 4),
        "accuracy_six_views": round(six_views.accuracy(), 4),
        "accuracy_after_upload": round(after_upload.accuracy(), 4),
        "calibration_error": round(answers.calibration_error(), 4),
        "class_accuracy": {
            name: round(float(row[index] / max(1, row.sum())), 4)
            for index, (name, row) in enumerate(zip(classes, confusion, strict=True))
        },
        "confusion": confusion.tolist(),
    }


def describe_training(
    fitted: recipe.Fitted, task: Task, options: Options, device: torch.device
) -> dict[str, Any]:
    """How the model came about, for its card."""
    return {
        "recipe": options.recipe,
        "source": "airbench (Keller Jordan), https://github.com/KellerJordan/cifar10-airbench",
        "teacher": options.teacher and options.teacher.resolve().name,
        "epochs": task.epochs,
        "seed": options.seed,
        "seconds": round(fitted.seconds, 1),
        "precision": "bfloat16" if hardware.has_fast_bfloat16(device) else "float32",
        "hardware": hardware.describe(device),
        "processes": dist.get_world_size() if dist.is_initialized() else 1,
        "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow")}
        | {"python": platform.python_version()},
        "curve": [asdict(epoch) for epoch in fitted.curve],
    }


def share_above(energies: np.ndarray[Any, Any], threshold: float) -> float:
    return round(float((energies > threshold).mean()), 4)


if __name__ == "__main__":
    sys.exit(main())
