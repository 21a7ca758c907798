"""Train a network, calibrate it on images it has not seen, measure it, and publish it with its pictures.

An interrupted run goes on where it was when the same command is given again. On several GPUs:
torchrun --nproc-per-node 4 -m training.train ...
"""

import argparse
import logging
import os
import platform
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist

from training import data, evaluate, export, hardware, pictures, publish, recipe
from training.data import Dataset
from training.errors import CommandError, Diverged
from training.evaluate import Answers
from training.recipe import RECIPES, Task
from training.report import JsonLines, Report, Silent, Terminal
from training.weights import WEIGHTS_FILE, read_teacher, write_weights


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
        with publish.draft(options.models) as folder:
            card, answers = finish(fitted, task, dataset, options, device, folder)
            drawings = pictures.draw(answers, dataset.classes, fitted.curve)
            report.publishing()
            artifact = publish.publish(folder, card, drawings, options.models)
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
    held_out, train = publish.hold_out(dataset.train, options.seed)
    chosen = RECIPES[options.recipe]
    teacher = None
    if options.teacher:
        teacher = read_teacher(options.teacher, dataset.classes)
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
    fitted: recipe.Fitted, task: Task, dataset: Dataset, options: Options, device: torch.device, folder: Path
) -> tuple[dict[str, Any], Answers]:
    """Write the artifact's files into `folder`; returns its card and the answers to the test images."""
    mean, std = recipe.MEAN.to(device), recipe.STD.to(device)
    model, temperature = publish.calibrate(export.fold(fitted.net), mean, std, task.validation, device)
    card, answers = publish.write_files(model, dataset, task.validation, fitted.ended, folder, options.seed)
    write_weights(fitted.net, temperature, dataset.classes, folder / WEIGHTS_FILE)
    six_views = evaluate.predict(evaluate.six_views(model.to_logits), dataset.test.images, device)
    return {
        **card,
        "activation": options.activation,
        "temperature": float(f"{temperature:.4g}"),
        "accuracy_six_views": round(Answers(six_views.softmax(1).numpy(), dataset.test).accuracy(), 4),
        "data": card["data"] | {"name": options.name or dataset.name},
        "training": describe_training(fitted, task, options, device),
    }, answers


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
        "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow", "onnx")}
        | {"python": platform.python_version()},
        "curve": [asdict(epoch) for epoch in fitted.curve],
    }


if __name__ == "__main__":
    sys.exit(main())
