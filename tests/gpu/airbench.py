"""Compares the recipes with airbench's own code, which is not in this repository, on the same images and GPU.

A copy of each script does fewer runs than its 200. The first run is dropped, because it compiles. The seconds
are those of training and of one evaluation with six views.
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

from tests.gpu.findings import judge
from tests.gpu.trainings import Trained
from training.data import Dataset, Split

SCRIPTS = {"fast": "airbench94_muon.py", "accurate": "airbench96_faster.py"}
RUNS = "range(200)"


@dataclass(frozen=True)
class Beside:
    """What the script's rows say, as means."""

    seconds: float
    six_views: float


def run(script: Path, dataset: Dataset, runs: int) -> Beside:
    """Raises ValueError if the script is not one that is known, CalledProcessError if it fails."""
    code = script.read_text()
    if code.count(RUNS) != 1:
        raise ValueError(f"{script} does not hold {RUNS} once")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cifar10").mkdir()
        for name, part in (("train", dataset.train), ("test", dataset.test)):
            write(part, dataset.classes, Path(folder, "cifar10", f"{name}.pt"))
        Path(folder, script.name).write_text(code.replace(RUNS, f"range({runs + 1})"))
        command = [sys.executable, script.name]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return read(done.stdout, runs)


def write(split: Split, classes: Sequence[str], path: Path) -> None:
    """Write images as airbench's loader keeps them."""
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    torch.save({"images": images, "labels": labels, "classes": list(classes)}, path)


def read(output: str, runs: int) -> Beside:
    """The last two columns of the last rows that say `eval`: accuracy by six views, and seconds."""
    rows = [line.strip("|").split("|") for line in output.splitlines() if re.match(r"\|.*\beval\b", line)]
    accuracies, seconds = zip(*((float(row[-2]), float(row[-1])) for row in rows[-runs:]), strict=True)
    return Beside(statistics.mean(seconds), statistics.mean(accuracies))


def compare(recipe: str, runs: Sequence[Trained], theirs: Beside) -> None:
    """Whether a recipe is as accurate and no slower, by the same timer rules."""
    seconds = statistics.mean(run.training + run.six_views_seconds for run in runs)
    six_views = statistics.mean(run.six_views for run in runs)
    ours = f"{seconds:.2f} s to {six_views:.2%} by six views"
    says = f"{ours}, {SCRIPTS[recipe]} {theirs.seconds:.2f} s to {theirs.six_views:.2%}"
    passed = seconds <= theirs.seconds and six_views >= theirs.six_views
    values = {"seconds": seconds, "six_views": six_views, "airbench": vars(theirs)}
    judge(f"{recipe} beside airbench", says, "as accurate and no slower", passed=passed, **values)
