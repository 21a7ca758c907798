"""The part `training` of `make gpu-check`: trains each recipe, and `fast` also with torch.compile.

Compares `balanced` with the version of `--model`. With `--airbench` it also compares `fast` and `accurate`
with airbench.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from inference import artifact
from tests.gpu import airbench, device
from tests.gpu.findings import report_check, report_figure, report_skipped
from tests.gpu.options import Options, decode
from tests.gpu.recipe_runs import RecipeRuns, Trained, compiled, describe
from tests.two_colours import write_two_colours
from training import data
from training.data import Dataset
from training.errors import DataError


def check_balanced(runs: Sequence[Trained], dataset: Dataset, options: Options) -> None:
    """Check that `balanced` is more accurate than the version of `--model`, on the same test images."""
    card = artifact.read_card(options.model)[0]
    what = "balanced compared with --model"
    accuracy = statistics.mean(run.accuracy for run in runs)
    if card.accuracy is None or dataset.fingerprint(dataset.test) != card.data.test_sha256:
        report_skipped(what, "the version of --model was not measured on these test images")
        return
    passed, goal = accuracy > card.accuracy, f"over {card.accuracy:.2%}"
    report_check(what, f"{accuracy:.2%}", goal, passed=passed, accuracy=accuracy)


def run(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = options.data
        if options.tiny and source is None:
            source = Path(folder, "data")
            write_two_colours(source, train=60, test=20)
        started = time.monotonic()
        try:
            dataset = data.load(source, Path(folder) if options.tiny else options.cache)
        except DataError as error:
            if source:
                raise
            report_skipped("training", str(error))  # no --data, and no network
            return
        seconds = time.monotonic() - started
    counts = f"{len(dataset.train):,} and {len(dataset.test):,} images"
    report_figure("loading the data", f"{seconds:.1f} s for {counts}", seconds=seconds)
    train_all(RecipeRuns(dataset, tiny=options.tiny), options)


def train_all(recipe_runs: RecipeRuns, options: Options) -> None:
    fast = recipe_runs.repeat("fast", options.fast)
    accurate = recipe_runs.repeat("accurate", options.accurate)
    if accurate and options.balanced:
        balanced = recipe_runs.repeat("balanced", options.balanced, teacher=accurate[0].network)
        check_balanced(balanced, recipe_runs.dataset, options)
    for recipe, runs in (("fast", fast), ("accurate", accurate)):
        if runs:
            compare_with_airbench(recipe, runs, recipe_runs.dataset, options.airbench)
    if recipe_runs.device.type != "cuda":
        report_skipped("GPU memory and torch.compile", device.NO_GPU)
    elif fast:  # last, because compiling may take minutes
        train_fast_compiled(recipe_runs, statistics.median(run.training for run in fast))


def train_fast_compiled(recipe_runs: RecipeRuns, seconds: float) -> None:
    """Train `fast` with torch.compile; `seconds` is the training time without torch.compile."""
    try:
        with compiled():
            run = recipe_runs.train("fast", 0)
    except Exception as error:  # a slim Docker image has no C compiler, which Triton needs
        report_skipped(
            "fast, compiled", f"torch.compile does not work here: {' '.join(str(error).split())[:200]}"
        )
        return
    text = f"{describe([run])}; it is {'faster' if run.training < seconds else 'no faster'}"
    report_figure("fast, compiled", text, **run.figures)


def compare_with_airbench(
    recipe: str, runs: Sequence[Trained], dataset: Dataset, folder: Path | None
) -> None:
    if folder is None:
        report_skipped(
            f"{recipe} compared with airbench", "the folder of its scripts was not given (--airbench)"
        )
        return
    try:
        reference = airbench.run(folder / airbench.SCRIPTS[recipe], dataset, len(runs))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        report_check(
            f"{recipe} compared with airbench",
            f"airbench fails here: {error}",
            "a run without an error",
            passed=False,
        )
        return
    airbench.compare(recipe, runs, reference)


if __name__ == "__main__":
    run(decode(sys.argv[1]))
