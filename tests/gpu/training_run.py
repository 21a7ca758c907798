"""The part `training_run` of `make gpu-check`: the training worker's Runner and its child process.

The table of trainings is in memory.
The first attempt of a run is handed back after an epoch, as if the worker stopped. The second attempt
resumes from the checkpoint and publishes. Another run is canceled. With a GPU, torchrun trains a model, and
the last run starts while the GPU's memory is full.
"""

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import torch

from backend.errors import Unavailable
from backend.gpus import Gpus
from tests.gpu import device
from tests.gpu.findings import report_check, report_figure, report_skipped
from tests.gpu.options import Options, decode
from tests.gpu.runs_in_memory import RunsInMemory
from tests.two_colours import write_two_colours
from training.worker.run import Run, TrainingFailed
from training.worker.runner import HANDED_BACK, LOST, Runner

# Enough images and epochs that a GPU still trains when the worker next checks the run.
EPOCHS, TINY_EPOCHS = 60, 2
IMAGES, TINY_IMAGES = 2500, 60  # of each of two classes
# The worker checks the run within 0.5 s; the child has 2 s to end. A busy CPU takes longer.
CANCEL_SECONDS, TINY_CANCEL_SECONDS = 5.0, 60.0
FREED_MIB, FREED_SECONDS = 64, 5.0
LEFT_MIB = 700  # free memory for the run that must fail: CUDA starts, but `set_whitening` needs more
# The modules that run as the child: RESUMED_MODULE in the check that resumes a run, MODULE in all others.
# TINY_RESUMED_MODULE is a fake, because the real child takes 15 s of CPU time.
MODULE, TINY_MODULE = "training.train", "tests.training.small"
RESUMED_MODULE, TINY_RESUMED_MODULE = "training.train", "tests.training.worker.fake_train"


class Setup:
    """The folders and options of the runs, and a small data set that a child reads in seconds."""

    def __init__(self, folder: Path, *, tiny: bool) -> None:
        self.models, self.cache, sets = (folder / name for name in ("models", "cache", "sets"))
        self.data = sets / "two-colours"
        train, test = (TINY_IMAGES, 20) if tiny else (IMAGES, 200)
        write_two_colours(self.data, train, test)
        self.epochs = TINY_EPOCHS if tiny else EPOCHS
        self.cancel_seconds = TINY_CANCEL_SECONDS if tiny else CANCEL_SECONDS
        self.module = TINY_MODULE if tiny else MODULE
        self.resumed_module = TINY_RESUMED_MODULE if tiny else RESUMED_MODULE
        self.settings: Any = SimpleNamespace(models_path=self.models, data_sets=sets, cache_path=self.cache)

    def make_run(self, recipe: str = "fast") -> Run:
        return Run(uuid4(), recipe, 0, self.epochs, self.data.name, "never", attempt=1)

    def run(self, runs: RunsInMemory, module: str, stopping: threading.Event | None = None) -> str:
        """One attempt; returns its outcome. Raises TrainingFailed."""
        table: Any = runs
        command = [sys.executable, "-m", module]
        return Runner(self.settings, table, command, stopping or threading.Event()).run(runs.run.id)


def run(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(Path(folder), tiny=options.tiny)
        before = read_used_mib()
        resume(setup)
        check_freed("after a run that published", before)
        runs = cancel(setup)
        check_freed("after a canceled run", before)
        if before is None:
            report_figure("device that the child names", runs.device)
            report_skipped("GPU memory, NCCL", "NVML reports no memory of a GPU")
        else:
            name = torch.cuda.get_device_name()
            report_check("device that the child names", runs.device, name, passed=runs.device == name)
            train_under_torchrun(setup)
            fill_memory(setup)


def resume(setup: Setup) -> None:
    """Hand a run back after its first epoch, and finish it in a second attempt."""
    stopping = threading.Event()
    runs = RunsInMemory(setup.make_run(), on_epoch=lambda _: stopping.set())
    outcome = setup.run(runs, setup.resumed_module, stopping)
    stored = list(runs.epochs)
    text = f"{outcome}, after epoch {stored[-1] if stored else 0}"
    report_check("hand back when the worker stops", text, HANDED_BACK, passed=outcome == HANDED_BACK)
    runs.run, runs.on_epoch = replace(runs.run, attempt=2), lambda _: None
    first, runs.reported, runs.phases = runs.reported, [], []
    started = time.monotonic()
    outcome = setup.run(runs, setup.resumed_module)
    seconds = time.monotonic() - started
    # The second child first reports the epochs of the first child again.
    numbers, repeated = sorted(runs.epochs), runs.reported[: len(first)]
    is_whole = all(
        (
            numbers == list(range(1, setup.epochs + 1)),
            repeated == first,
            len(first) < setup.epochs == runs.planned,
        )
    )
    text = f"epochs {first} before and {runs.reported} after, {outcome} in {seconds:.1f} s"
    passed = is_whole and outcome.startswith("published")
    report_check(
        "resume from the checkpoint", text, "each epoch stored once, and a published version", passed=passed
    )
    report_check(
        "phases", ", ".join(runs.phases), "publishing last", passed=runs.phases[-1:] == ["publishing"]
    )


def cancel(setup: Setup) -> RunsInMemory:
    """Cancel a run after its first epoch; its checkpoint is removed."""
    canceled_at = 0.0

    def on_epoch(_: int) -> None:
        nonlocal canceled_at
        canceled_at = canceled_at or time.monotonic()
        runs.is_canceled = True

    runs = RunsInMemory(setup.make_run(), on_epoch)
    outcome = setup.run(runs, setup.module)
    seconds = time.monotonic() - canceled_at if canceled_at else float("inf")
    left = [path.name for path in (setup.models / ".runs").glob(f"{runs.run.id}*")]
    text = f"{outcome}; the child ended {seconds:.1f} s later and left {left or 'nothing'}"
    passed = outcome == LOST and seconds <= setup.cancel_seconds and not left
    report_check(
        "cancel",
        text,
        f"{setup.cancel_seconds:.0f} s at most, and nothing left",
        passed=passed,
        seconds=seconds,
    )
    return runs


def check_freed(when: str, before: float | None) -> None:
    """Check that the GPU uses at most FREED_MIB more than before. The driver frees memory after a moment."""
    if before is None:
        return
    ends = time.monotonic() + FREED_SECONDS
    while (used := read_used_mib() or 0) > before + FREED_MIB and time.monotonic() < ends:
        time.sleep(0.2)
    text = f"{used:,.0f} MiB are used, {before:,.0f} before"
    goal, passed = f"{FREED_MIB} MiB more at most", used <= before + FREED_MIB
    report_check(f"GPU memory {when}", text, goal, passed=passed, mib=used)


def read_used_mib() -> float | None:
    """The used memory of the first GPU, from NVML. None: NVML fails, finds no GPU or reports no memory."""
    try:
        used = asyncio.run(Gpus().read())[0].memory_used_bytes
    except Unavailable:
        return None
    return None if used is None else used / 2**20


def train_under_torchrun(setup: Setup) -> None:
    """Train in one process for each GPU. NCCL exchanges the gradients, even if there is only one process."""
    count = torch.cuda.device_count()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    places = ["--data", str(setup.data), "--models", str(setup.models), "--cache", str(setup.cache)]
    command = [*torchrun, "-m", MODULE, *places, "--epochs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    last = (done.stdout if done.returncode == 0 else done.stderr).strip().rpartition("\n")[2]
    goal = "a published version"
    report_check(f"NCCL, {count} processes", last[:200], goal, passed=last.startswith("published"))


def fill_memory(setup: Setup) -> None:
    """Start a run while this process holds nearly all of the GPU's memory."""
    here = device.choose()
    torch.zeros(1, device=here)  # starts CUDA, which takes memory, too
    free, _ = torch.cuda.mem_get_info(here)
    held = torch.empty(max(0, free - LEFT_MIB * 2**20), dtype=torch.uint8, device=here)
    runs = RunsInMemory(setup.make_run("accurate"))
    try:
        text = setup.run(runs, setup.module)
        passed = False
    except TrainingFailed as failure:
        text = f"{failure.title}: {failure}"
        passed = "memory is full" in failure.title
    del held
    torch.cuda.empty_cache()
    report_check("a GPU without free memory is reported", text, "a failure in words", passed=passed)


if __name__ == "__main__":
    run(decode(sys.argv[1]))
