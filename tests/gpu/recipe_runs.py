"""Runs of the training loop with each recipe: their time and accuracy.

The training time is measured as in `make bench-train`. It begins when the images are on the device, and ends
with the trained network. It does not include the GPU's warm-up, validation and checkpoints.
"""

import statistics
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.gpu import device
from tests.gpu.findings import report_figure
from tests.training.small import SMALL
from training import evaluate, export, loop, publish
from training.data import Dataset
from training.evaluate import Answers
from training.export import Calibrated
from training.model import Net
from training.plan import TrainingPlan
from training.recipe import MEAN, RECIPES, STD
from training.report import Report

TINY_EPOCHS = 1


@dataclass(frozen=True)
class Trained:
    """One training. Times are in seconds, accuracies are shares of the test images.

    `six_views` is the accuracy by the averaged answers for six views of each image, and `six_views_seconds`
    the time of this measurement. `evaluation` is the time of calibration and of both accuracies. `peak_mib`
    is of the GPU's memory; 0 on a CPU.
    """

    warm_up: float
    training: float
    evaluation: float
    six_views_seconds: float
    accuracy: float
    six_views: float
    calibration_error: float
    peak_mib: float
    network: Calibrated

    @property
    def figures(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if name != "network"}


class PhaseTimes(Report):
    """Records when each phase began."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    def phase(self, name: str) -> None:
        self.began[name] = time.monotonic()


class RecipeRuns:
    """Trains recipes on one data set."""

    def __init__(self, dataset: Dataset, *, tiny: bool) -> None:
        self.dataset = dataset
        self.tiny = tiny
        self.recipes = RECIPES | SMALL if tiny else RECIPES
        self.device = device.choose()

    def train(self, recipe: str, seed: int, teacher: Calibrated | None = None) -> Trained:
        held_out, images = publish.hold_out(self.dataset.train, seed)
        chosen, classes = self.recipes[recipe], len(self.dataset.classes)
        epochs = TINY_EPOCHS if self.tiny else chosen.epochs
        plan = TrainingPlan(chosen, epochs, seed, images, held_out, "check", classes, teacher)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        times = PhaseTimes()
        fitted = loop.fit(plan, self.device, times)
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        started = time.monotonic()
        served = publish.calibrate(export.fold(fitted.net), MEAN, STD, held_out, self.device)
        one = self.measure(served.to_logits)
        six_started = time.monotonic()
        six = self.measure(evaluate.six_views(served.to_logits))  # ends when the answers are on the CPU
        return Trained(
            warm_up=times.began["training"] - times.began.get("warming up", times.began["training"]),
            training=fitted.seconds,
            evaluation=time.monotonic() - started,
            six_views_seconds=time.monotonic() - six_started,
            accuracy=one.accuracy(),
            six_views=six.accuracy(),
            calibration_error=one.calibration_error(),
            peak_mib=peak / 2**20,
            network=served.calibrated,
        )

    def measure(self, logits: Callable[[Tensor], Tensor]) -> Answers:
        test = self.dataset.test
        answers = evaluate.predict(logits, test.images, self.device)
        return Answers(answers.softmax(1).numpy(), test)

    def repeat(self, recipe: str, count: int, teacher: Calibrated | None = None) -> list[Trained]:
        """Train `count` times, with seeds from 0 up. Reports each run, then the mean and deviation of all."""
        runs: list[Trained] = []
        for seed in range(count):
            runs.append(self.train(recipe, seed, teacher))
            report_figure(f"{recipe}, seed {seed}", describe(runs[-1:]), **runs[-1].figures)
        if count > 1:
            columns = {name: [run.figures[name] for run in runs] for name in runs[0].figures}
            means = {name: statistics.mean(column) for name, column in columns.items()}
            deviations = {name: statistics.stdev(column) for name, column in columns.items()}
            what = f"{recipe}, mean and deviation, n = {count}"
            report_figure(what, describe(runs), mean=means, deviation=deviations)
        return runs


def describe(runs: Sequence[Trained]) -> str:
    """The means of the runs, with the deviation of the time and of the accuracies."""

    def mean(name: str) -> float:
        return statistics.mean(run.figures[name] for run in runs)

    def spread(name: str, unit: float) -> str:
        return f" ± {unit * statistics.stdev(run.figures[name] for run in runs):.2f}" if len(runs) > 1 else ""

    memory = f", peak {mean('peak_mib'):,.0f} MiB of GPU memory" if mean("peak_mib") else ""
    return (
        f"{mean('training'):.2f}{spread('training', 1)} s (warm-up {mean('warm_up'):.1f} s, evaluation "
        f"{mean('evaluation'):.1f} s), single view {100 * mean('accuracy'):.2f}{spread('accuracy', 100)}%, "
        f"six views {100 * mean('six_views'):.2f}{spread('six_views', 100)}%, calibration error "
        f"{mean('calibration_error'):.2%}{memory}"
    )


@contextmanager
def compiled() -> Generator[None]:
    """Have the loop compile each network that it builds."""
    build = loop.build

    def build_and_compile(*arguments: object) -> Net:
        net = build(*arguments)  # pyright: ignore[reportArgumentType]
        net.compile()
        return net

    loop.build = build_and_compile
    try:
        yield
    finally:
        loop.build = build
