"""Train a network, calibrate it on held-out images, measure it, and publish it with its pictures.

The same command resumes an interrupted run. On several GPUs:
torchrun --nproc-per-node 4 -m training.train ...
"""

import argparse
import logging
import platform
import sys
from argparse import Namespace
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from training import data, distributed, evaluate, export, hardware, loop, pictures, publish
from training.data import Dataset
from training.errors import CommandError, Diverged, OutOfMemory
from training.evaluate import Answers
from training.plan import TrainingPlan
from training.recipe import MEAN, RECIPES, STD
from training.report import JsonLines, Report, Terminal
from training.weights import WEIGHTS_FILE, read_teacher, write_weights

MAX_EPOCHS, MAX_SEED = 1000, 2**31 - 1
MAX_REASON = 300  # characters of PyTorch's message that are shown


def main() -> int:
    options = parse_options()
    logging.basicConfig(format="%(message)s")
    report = JsonLines() if options.report == "json" else Terminal()
    try:
        run(options, report)
    except CommandError as error:
        report.failed(error)
        return 1
    except RuntimeError as error:
        if not hardware.is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:MAX_REASON].rstrip(".")
        advice = "Stop other programs on the GPU (nvidia-smi lists them), or choose a smaller recipe."
        report.failed(OutOfMemory(f"The GPU's memory is full: {said}. {advice}"))
        return 1
    except KeyboardInterrupt:
        print("\ntrain: interrupted; the same command resumes after the last whole epoch", file=sys.stderr)
        return 130
    return 0


def parse_options() -> Namespace:
    parser = argparse.ArgumentParser(prog="make train", description=__doc__)
    publish.add_options(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="fast")
    parser.add_argument("--epochs", type=int, help="[the recipe's epochs]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teacher", type=Path, help="folder of the version whose answers are learned")
    parser.add_argument("--checkpoint", type=Path, help="the run's checkpoint [in .runs of --models]")
    parser.add_argument("--report", choices=("terminal", "json"), default="terminal", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.epochs is not None and not 1 <= options.epochs <= MAX_EPOCHS:
        parser.error(f"--epochs: give a number from 1 to {MAX_EPOCHS}")
    if not 0 <= options.seed <= MAX_SEED:
        parser.error(f"--seed: give a number from 0 to {MAX_SEED}")
    return options


def run(options: Namespace, report: Report) -> Path | None:
    """Train, measure and publish.

    Returns the artifact's folder. Under torchrun the first process returns it, and the others return None.
    Raises DataError, TeacherError, OtherRun, Diverged.
    """
    with distributed.join() as device:
        is_first = distributed.rank() == 0
        if not is_first:
            report = Report()
        report.phase("reading")
        dataset = data.load(options.data, options.cache, options.name)
        for left_out in dataset.left_out:
            report.note(f"left out, {left_out}")
        plan = make_plan(options, dataset)
        checkpoint = options.checkpoint or options.models / ".runs" / f"{plan.identity}.checkpoint"
        try:
            fitted = loop.fit(plan, device, report, checkpoint)
        except Diverged:  # a resumed run would diverge again
            checkpoint.unlink(missing_ok=True)
            raise
        if not is_first:
            return None
        report.phase("evaluating")
        with publish.draft(options.models) as folder:
            card, answers = write_artifact(fitted, plan, dataset, device, folder)
            card["activation"] = options.activation
            card["training"] = describe_training(fitted, plan, options, device)
            drawings = pictures.draw(answers, dataset.classes, fitted.curve)
            report.publishing()
            artifact = publish.publish(folder, card, drawings, options.models)
        if options.checkpoint is None:  # else the caller that named the file removes it
            checkpoint.unlink(missing_ok=True)
        report.published(artifact, card)
        return artifact


def make_plan(options: Namespace, dataset: Dataset) -> TrainingPlan:
    """Hold images out, and plan to train on the rest. Raises TeacherError."""
    held_out, train = publish.hold_out(dataset.train, options.seed)
    recipe = RECIPES[options.recipe]
    return TrainingPlan(
        recipe=recipe,
        epochs=options.epochs or recipe.epochs,
        seed=options.seed,
        train=train,
        validation=held_out,
        data=dataset.fingerprint(),
        classes=len(dataset.classes),
        teacher=read_teacher(options.teacher, dataset.classes) if options.teacher else None,
    )


def write_artifact(
    fitted: loop.Fitted, plan: TrainingPlan, dataset: Dataset, device: torch.device, folder: Path
) -> tuple[dict[str, Any], Answers]:
    """Write the models, reference images and weights; returns the card and the answers to the test images."""
    model = publish.calibrate(export.fold(fitted.net), MEAN, STD, plan.validation, device)
    card, answers = publish.write_files(model, dataset, plan.validation, fitted.ended, folder, plan.seed)
    write_weights(fitted.net, model.calibrated.temperature, dataset.classes, folder / WEIGHTS_FILE)
    six_views = evaluate.predict(evaluate.six_views(model.to_logits), dataset.test.images, device)
    accuracy = Answers(six_views.softmax(1).numpy(), dataset.test).accuracy()
    return card | {"accuracy_six_views": round(accuracy, 4)}, answers


def describe_training(
    fitted: loop.Fitted, plan: TrainingPlan, options: Namespace, device: torch.device
) -> dict[str, Any]:
    """How the model was trained, for its card."""
    libraries = {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow", "onnx")}
    return {
        "recipe": plan.recipe.name,
        "source": "airbench (Keller Jordan), https://github.com/KellerJordan/cifar10-airbench",
        "teacher": options.teacher and options.teacher.resolve().name,
        "epochs": plan.epochs,
        "seed": plan.seed,
        "seconds": round(fitted.seconds, 1),
        "precision": "bfloat16" if hardware.has_fast_bfloat16(device) else "float32",
        "hardware": hardware.describe(device),
        "processes": distributed.size(),
        "versions": libraries | {"python": platform.python_version()},
        "curve": [asdict(epoch) for epoch in fitted.curve],
    }


if __name__ == "__main__":
    sys.exit(main())
