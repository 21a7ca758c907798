"""A run as HTTP starts it: the training worker's Runner with its child process, and the table in memory.

The first attempt is handed back after an epoch, as when its worker stops; the second one resumes from the
checkpoint and publishes. Another run is canceled, and one finds the GPU's memory full.
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
from tests.gpu.findings import judge, measured, not_here
from tests.gpu.memory_runs import MemoryRuns
from tests.gpu.options import Options, decode
from tests.two_colours import write_two_colours
from training.worker.run import Run, TrainingFailed
from training.worker.runner import HANDED_BACK, LOST, Runner

# Many images and epochs, so that a GPU is still training when the worker looks.
EPOCHS, TINY_EPOCHS = 60, 2
IMAGES, TINY_IMAGES = 2500, 60  # of each of two classes
# 0.5 s until the worker looks, 2 s until it kills, and the system's time. The tiny version times nothing.
CANCEL_SECONDS, TINY_CANCEL_SECONDS = 5.0, 60.0
FREED_MIB, FREED_SECONDS = 64, 5.0
LEFT_MIB = 700  # for a run that is to find the memory full: CUDA starts with it, the whitening needs more
COMMAND, TINY_COMMAND = "training.train", "tests.training.small"
# The tiny version resumes the worker tests' own child: the real one takes 15 s of CPU time to publish.
RESUMED, TINY_RESUMED = "training.train", "tests.training.worker.fake_train"


class Place:
    """Folders and options of the runs. Their data set is a small one, which a child reads in seconds."""

    def __init__(self, folder: Path, *, tiny: bool) -> None:
        self.models, self.cache, sets = (folder / name for name in ("models", "cache", "sets"))
        self.data = sets / "two-colours"
        train, test = (TINY_IMAGES, 20) if tiny else (IMAGES, 200)
        write_two_colours(self.data, train, test)
        self.epochs = TINY_EPOCHS if tiny else EPOCHS
        self.cancel_seconds = TINY_CANCEL_SECONDS if tiny else CANCEL_SECONDS
        self.command, self.resumed = (TINY_COMMAND, TINY_RESUMED) if tiny else (COMMAND, RESUMED)
        self.settings: Any = SimpleNamespace(models_path=self.models, data_sets=sets, cache_path=self.cache)

    def make_run(self, recipe: str = "fast") -> Run:
        return Run(uuid4(), recipe, 0, self.epochs, self.data.name, "never", attempt=1)

    def run(self, runs: MemoryRuns, module: str, stopping: threading.Event | None = None) -> str:
        """One attempt; returns its outcome. Raises TrainingFailed."""
        table: Any = runs
        command = [sys.executable, "-m", module]
        return Runner(self.settings, table, command, stopping or threading.Event()).run(runs.run.id)


def run(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), tiny=options.tiny)
        before = read_used_mib()
        resume(place)
        check_freed("after a run that published", before)
        runs = cancel(place)
        check_freed("after a canceled run", before)
        if before is None:
            measured("device that the child names", runs.device)
            not_here("GPU memory, NCCL", device.NO_GPU)
        else:
            name = torch.cuda.get_device_name()
            judge("device that the child names", runs.device, name, passed=runs.device == name)
            train_under_torchrun(place)
            fill_memory(place)


def resume(place: Place) -> None:
    """Hand a run back after its first epoch, and finish it in a second attempt."""
    stopping = threading.Event()
    runs = MemoryRuns(place.make_run(), on_epoch=lambda _: stopping.set())
    outcome = place.run(runs, place.resumed, stopping)
    stored = list(runs.epochs)
    says = f"{outcome}, after epoch {stored[-1] if stored else 0}"
    judge("hand back when the worker stops", says, HANDED_BACK, passed=outcome == HANDED_BACK)
    runs.run, runs.on_epoch = replace(runs.run, attempt=2), lambda _: None
    first, runs.reported, runs.phases = runs.reported, [], []
    started = time.monotonic()
    outcome = place.run(runs, place.resumed)
    seconds = time.monotonic() - started
    numbers, told_again = sorted(runs.epochs), runs.reported[: len(first)]
    is_whole = numbers == list(range(1, place.epochs + 1)) and told_again == first
    is_whole = is_whole and len(first) < place.epochs == runs.planned
    says = f"epochs {first} before and {runs.reported} after, {outcome} in {seconds:.1f} s"
    passed = is_whole and outcome.startswith("published")
    judge("resume from the checkpoint", says, "each epoch once, and a published version", passed=passed)
    judge("phases", ", ".join(runs.phases), "publishing last", passed=runs.phases[-1:] == ["publishing"])


def cancel(place: Place) -> MemoryRuns:
    """Cancel a run after its first epoch; its checkpoint is removed."""
    began = 0.0

    def on_epoch(_: int) -> None:
        nonlocal began
        began = began or time.monotonic()
        runs.is_canceled = True

    runs = MemoryRuns(place.make_run(), on_epoch)
    outcome = place.run(runs, place.command)
    seconds = time.monotonic() - began if began else float("inf")
    left = [path.name for path in (place.models / ".runs").glob(f"{runs.run.id}*")]
    says = f"{outcome}; the child ended {seconds:.1f} s later and left {left or 'nothing'}"
    passed = outcome == LOST and seconds <= place.cancel_seconds and not left
    judge(
        "cancel",
        says,
        f"{place.cancel_seconds:.0f} s at most, and nothing left",
        passed=passed,
        seconds=seconds,
    )
    return runs


def check_freed(when: str, before: float | None) -> None:
    """Whether the GPU's used memory is again what it was. The driver takes a moment."""
    if before is None:
        return
    ends = time.monotonic() + FREED_SECONDS
    while (used := read_used_mib() or 0) > before + FREED_MIB and time.monotonic() < ends:
        time.sleep(0.2)
    says = f"{used:,.0f} MiB are used, {before:,.0f} before"
    goal, passed = f"{FREED_MIB} MiB more at most", used <= before + FREED_MIB
    judge(f"GPU memory {when}", says, goal, passed=passed, mib=used)


def read_used_mib() -> float | None:
    """Memory that is used on the first GPU, by NVML; None: no GPU here."""
    try:
        used = asyncio.run(Gpus().read())[0].memory_used_bytes
    except Unavailable:
        return None
    return None if used is None else used / 2**20


def train_under_torchrun(place: Place) -> None:
    """Train in one process for each GPU; they exchange gradients by NCCL, also if there is only one."""
    count = torch.cuda.device_count()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    places = ["--data", str(place.data), "--models", str(place.models), "--cache", str(place.cache)]
    command = [*torchrun, "-m", COMMAND, *places, "--epochs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    last = (done.stdout if done.returncode == 0 else done.stderr).strip().rpartition("\n")[2]
    goal = "a published version"
    judge(f"NCCL, {count} processes", last[:200], goal, passed=last.startswith("published"))


def fill_memory(place: Place) -> None:
    """Start a run while this process holds all of the GPU's memory but a little."""
    here = device.choose()
    torch.zeros(1, device=here)  # starts CUDA, which takes memory, too
    free, _ = torch.cuda.mem_get_info(here)
    held = torch.empty(max(0, free - LEFT_MIB * 2**20), dtype=torch.uint8, device=here)
    runs = MemoryRuns(place.make_run("accurate"))
    try:
        says = place.run(runs, place.command)
        passed = False
    except TrainingFailed as failure:
        says = f"{failure.title}: {failure}"
        passed = "memory is full" in failure.title
    del held
    torch.cuda.empty_cache()
    judge("a GPU without free memory says so", says, "a failure in words", passed=passed)


if __name__ == "__main__":
    run(decode(sys.argv[1]))
