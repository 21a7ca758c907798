"""Two processes of torchrun train one network."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.local.config import REPOSITORY


@pytest.fixture(scope="module")
def folder(two_colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of models after a run in two processes. The file `output` holds what the run printed."""
    folder = tmp_path_factory.mktemp("two processes")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    places = ["--data", str(two_colours), "--models", str(folder), "--cache", str(folder / ".cache")]
    flags = ["--recipe", "accurate", "--epochs", "3", "--name", "two colours"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.training.torchrun_process", str(folder), *places, *flags],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "output").write_text(done.stdout)
    return folder


def test_two_processes_publish_one_artifact(folder: Path) -> None:
    assert (folder / "output").read_text().count("epoch   3:") == 1
    (card_file,) = folder.glob("*/card.json")
    card = json.loads(card_file.read_text())
    assert card["training"]["processes"] == 2
    assert card["accuracy"] >= 0.9


def test_two_processes_end_with_the_same_network(folder: Path) -> None:
    """Each process trains on half of every batch. Without exchanged gradients the networks would differ."""
    one, two = (load(folder, rank) for rank in (0, 1))
    assert all(torch.equal(one["net"][name], two["net"][name]) for name in one["net"])


def test_each_process_sees_one_half_of_the_images(folder: Path) -> None:
    one, two = (load(folder, rank)["seen"] for rank in (0, 1))
    assert sorted(one + two) == list(range(180))  # 20 of 200 are held out
    assert len(one) == len(two) == 90


def load(folder: Path, rank: int) -> dict[str, Any]:
    return torch.load(folder / f"{rank}.pt")
