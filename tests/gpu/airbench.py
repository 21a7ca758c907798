"""Compares the recipes with the scripts of airbench (not in this repository), on the same GPU.

airbench also trains on the images that the recipes hold out. `run` executes a copy of a script with fewer
trainings. Only the last `runs` trainings count: the first ones compile. The seconds are those of training and
of one evaluation with six views (training/recipe.py).
"""

import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.gpu.findings import report_check
from tests.gpu.recipe_runs import Trained
from training.data import Dataset, Split

SCRIPTS = {"fast": "airbench94_muon.py", "accurate": "airbench96_faster.py"}
LOOP = "range(200)"  # the runs, in the code of the scripts


@dataclass(frozen=True)
class Reference:
    """The means of the runs of airbench's script: seconds, and accuracy by six views."""

    seconds: float
    six_views: float


def run(script: Path, dataset: Dataset, runs: int) -> Reference:
    """Run a copy of the script with few trainings; returns the means of the last `runs`.

    Raises ValueError if the script does not hold LOOP exactly once, CalledProcessError if it fails.
    """
    code = script.read_text()
    if code.count(LOOP) != 1:
        raise ValueError(f"{script} does not hold {LOOP} once")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cifar10").mkdir()
        for name, part in (("train", dataset.train), ("test", dataset.test)):
            write(part, dataset.classes, Path(folder, "cifar10", f"{name}.pt"))
        Path(folder, script.name).write_text(code.replace(LOOP, f"range({runs + 1})"))
        command = [sys.executable, script.name]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return read(done.stdout, runs)


def write(split: Split, classes: Sequence[str], path: Path) -> None:
    """Write images in the format of airbench's loader."""
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    torch.save({"images": images, "labels": labels, "classes": list(classes)}, path)


def read(output: str, runs: int) -> Reference:
    """The means of the last rows with `eval`. Each ends with the accuracy by six views and the seconds."""
    rows = [line.strip("|").split("|") for line in output.splitlines() if re.match(r"\|.*\beval\b", line)]
    accuracies, seconds = zip(*((float(row[-2]), float(row[-1])) for row in rows[-runs:]), strict=True)
    return Reference(statistics.mean(seconds), statistics.mean(accuracies))


def compare(recipe: str, runs: Sequence[Trained], reference: Reference) -> None:
    """Check that a recipe is as accurate as the reference and no slower."""
    seconds = statistics.mean(run.training + run.six_views_seconds for run in runs)
    six_views = statistics.mean(run.six_views for run in runs)
    own = f"{seconds:.2f} s to {six_views:.2%} by six views"
    text = f"{own}, {SCRIPTS[recipe]} {reference.seconds:.2f} s to {reference.six_views:.2%}"
    passed = seconds <= reference.seconds and six_views >= reference.six_views
    values = {"seconds": seconds, "six_views": six_views, "airbench": vars(reference)}
    report_check(
        f"{recipe} compared with airbench", text, "as accurate and no slower", passed=passed, **values
    )
