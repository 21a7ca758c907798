"""Training: each recipe on the GPU, torch.compile, and a student compared with the version that ships."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from inference import artifact
from tests.gpu import airbench, device
from tests.gpu.findings import judge, measured, not_here
from tests.gpu.options import Options, decode
from tests.gpu.trainings import Trained, Trainings, compiled, describe
from tests.two_colours import write_two_colours
from training import data
from training.data import Dataset
from training.errors import DataError

DOWNLOADS = Path(".local/data")


def judge_balanced(runs: Sequence[Trained], dataset: Dataset, options: Options) -> None:
    """Whether `balanced` is better than the version that ships, on that version's test images."""
    card = artifact.read_card(options.model)[0]
    what, accuracy = "balanced beside the version that ships", statistics.mean(run.accuracy for run in runs)
    if card.accuracy is None or dataset.test_fingerprint() != card.data.test_sha256:
        not_here(what, "these are not the test images that the shipped version was measured on")
        return
    passed, goal = accuracy > card.accuracy, f"over {card.accuracy:.2%}"
    judge(what, f"{accuracy:.2%}", goal, passed=passed, accuracy=accuracy)


def run(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = options.data
        if options.tiny and source is None:
            source = Path(folder, "data")
            write_two_colours(source, train=60, test=20)
        started = time.monotonic()
        try:
            dataset = data.load(source, Path(folder) if source else DOWNLOADS)
        except DataError as error:
            if source:
                raise
            not_here("training", str(error))  # no --data, and no network
            return
        seconds = time.monotonic() - started
    counts = f"{len(dataset.train):,} and {len(dataset.test):,} images"
    measured("loading the data", f"{seconds:.1f} s for {counts}", seconds=seconds)
    train_all(Trainings(dataset, tiny=options.tiny), options)


def train_all(trainings: Trainings, options: Options) -> None:
    fast = trainings.repeat("fast", options.fast)
    accurate = trainings.repeat("accurate", options.accurate)
    if accurate and options.balanced:
        balanced = trainings.repeat("balanced", options.balanced, teacher=accurate[0].network)
        judge_balanced(balanced, trainings.dataset, options)
    for recipe, runs in (("fast", fast), ("accurate", accurate)):
        if runs:
            compare_with_airbench(recipe, runs, trainings.dataset, options.airbench)
    if trainings.device.type != "cuda":
        not_here("GPU memory and torch.compile", device.NO_GPU)
    elif fast:  # last, because compiling may take minutes
        compile_fast(trainings, statistics.median(run.training for run in fast))


def compile_fast(trainings: Trainings, seconds: float) -> None:
    """Train `fast` with torch.compile; `seconds` is the time without."""
    try:
        with compiled():
            run = trainings.train("fast", 0)
    except Exception as error:  # a slim image has no C compiler, which Triton needs
        not_here("fast, compiled", f"torch.compile does not work here: {' '.join(str(error).split())[:200]}")
        return
    says = f"{describe([run])}; it {'pays' if run.training < seconds else 'does not pay'}"
    measured("fast, compiled", says, **run.figures)


def compare_with_airbench(
    recipe: str, runs: Sequence[Trained], dataset: Dataset, folder: Path | None
) -> None:
    if folder is None:
        not_here(f"{recipe} beside airbench", "its code was not given (--airbench)")
        return
    try:
        theirs = airbench.run(folder / airbench.SCRIPTS[recipe], dataset, len(runs))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        judge(
            f"{recipe} beside airbench", f"it does not run here: {error}", "figures to compare", passed=False
        )
        return
    airbench.compare(recipe, runs, theirs)


if __name__ == "__main__":
    run(decode(sys.argv[1]))
