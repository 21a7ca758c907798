"""The tiny version of the GPU check, which runs on a machine without a GPU, too."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import artifact
from scripts.local.config import REPOSITORY
from tests.gpu import serving
from tests.gpu.options import decode, find_model, parse
from tests.two_colours import write_two_colours
from training import data
from training.errors import DataError

# Packages that a machine with a GPU may lack, because only services and tests need them.
MISSING = (
    "asyncpg", "billiard", "celery", "fastapi", "kombu", "psycopg", "pydantic_settings", "pytest",
    "pythonjsonlogger", "sqlalchemy", "starlette",
)  # fmt: skip

# Prints rows like airbench's scripts. tests/gpu/airbench.py shortens `range(200)` to the runs that it needs.
# test.pt holds 40 images, so the accuracy of run N is 0.2 * N.
AIRBENCH = """
import zipfile
count = max(file.file_size for file in zipfile.ZipFile("cifar10/test.pt").infolist()) // (32 * 32 * 3)
print("|  run     |  epoch  |  tta_val_acc  |  time_seconds  |")
for run in range(200):
    print(f"|       {run}  |      0  |               |        0.0000  |")
    print(f"|          |   eval  |       {count / 200 * run:.4f}  |        0.0000  |")
print("Mean: 0.3000    Std: 0.1000")
"""


def check(tmp_path: Path, *flags: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], Any]:
    """Run the tiny version; returns the process, and the findings of each part by name."""
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu", "--tiny", "--json", str(report), *flags],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | environment,
    )  # fmt: skip
    parts = json.loads(report.read_text())["parts"]
    return done, {part: {row["what"]: row for row in rows} for part, rows in parts.items()}


@pytest.fixture
def without_services(tmp_path: Path) -> str:
    """A PYTHONPATH with which the packages of MISSING cannot be imported."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name in MISSING:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('not there', name={name!r})")
    return str(folder)


def test_only_the_batch_loop_needs_the_packages_of_the_services(
    tmp_path: Path, without_services: str
) -> None:
    parts = ["nvml", "serving", "training_run", "training"]
    for name in ("airbench94_muon.py", "airbench96_faster.py"):
        (tmp_path / name).write_text(AIRBENCH)
    more = ["--fast", "2", "--airbench", str(tmp_path)]
    done, found = check(tmp_path, "--parts", *parts, *more, PYTHONPATH=without_services)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [row["what"] for rows in found.values() for row in rows.values() if row["outcome"] == "failed"]
    assert failed == ["fast compared with airbench", "accurate compared with airbench"]  # AIRBENCH takes 0 s
    reference = found["training"]["fast compared with airbench"]["values"]["airbench"]
    assert reference == {
        "seconds": 0.0,
        "six_views": pytest.approx(0.3),
    }  # means of the runs 1 and 2, because run 0 compiles
    assert list(found) == parts
    assert found["serving"]["answers, as served"]["outcome"] == "passed"
    assert {f"batch of {n}, {variant}" for n in (1, 4) for variant in ("as served", "graph, float16")} <= set(
        found["serving"]
    )
    assert found["training"]["fast, mean and deviation, n = 2"]["values"]["deviation"]["accuracy"] >= 0
    assert {"fast, seed 1", "accurate, seed 0", "balanced, seed 0"} <= set(found["training"])
    run = found["training_run"]
    names = ("hand back when the worker stops", "resume from the checkpoint", "cancel")
    assert [run[name]["outcome"] for name in names] == ["passed"] * 3
    rows = [line for line in done.stdout.splitlines() if "batch of 1, as served" in line]
    assert len(rows) == 1 and "images/s" in rows[0]


def test_the_serving_part_reads_the_file_or_the_data_set_or_the_reference_images(tmp_path: Path) -> None:
    source, file = tmp_path / "data", tmp_path / "test.npz"
    write_two_colours(source, train=60, test=20)
    flags = ["--data", str(source), "--cache", str(tmp_path)]
    test = data.load(source, tmp_path).test
    np.savez_compressed(file, images=test.images[:3], labels=test.labels[:3])
    model = artifact.read(find_model())

    def count(*flags: str) -> int:
        return len(serving.read_images(decode(parse([], [*flags]).encode()), model))

    assert (count(*flags), count(*flags, "--images", str(file))) == (len(test), 3)
    assert count(*flags, "--tiny") == len(model.check.images)
    with pytest.raises(DataError, match="nowhere"):
        count("--data", str(tmp_path / "nowhere"))


def test_the_batch_loop_classifies_every_prediction(tmp_path: Path) -> None:
    done, found = check(tmp_path, "--parts", "worker_loop")
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["worker_loop"]["outcomes of the batch loop"]["text"] == "64 of 64 succeeded"
    assert found["worker_loop"]["batch loop"]["values"]["images_per_second"] > 0


def test_the_batch_loop_names_the_package_that_is_missing(tmp_path: Path, without_services: str) -> None:
    done, found = check(tmp_path, "--parts", "worker_loop", PYTHONPATH=without_services)
    assert done.returncode == 0, done.stdout + done.stderr
    row = found["worker_loop"]["batch loop"]
    assert (row["outcome"], row["text"]) == (
        "skipped",
        "the Python package celery is not installed",
    )


def test_a_part_that_crashes_fails_the_check_with_a_reason(tmp_path: Path) -> None:
    done, found = check(tmp_path, "--parts", "worker_loop", "--model", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert found["worker_loop"]["worker_loop"]["outcome"] == "failed"
    said = done.stdout.splitlines()[-1]
    assert said.startswith("failed: worker_loop: It ended with status 1: ") and "ArtifactError" in said


def test_a_part_that_takes_too_long_is_killed_and_the_next_one_has_no_time(tmp_path: Path) -> None:
    done, found = check(tmp_path, "--parts", "serving", "worker_loop", "--seconds", "0.1")
    assert done.returncode == 1
    assert found["serving"]["serving"]["text"].startswith("It took more than 0 s")
    assert found["worker_loop"]["worker_loop"]["text"] == "No time was left of 0 s."


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_without_a_gpu_the_tiny_version_runs_and_the_exit_status_is_2(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.gpu", "--json", str(report), "--parts", "nvml"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith("no GPU here: the tiny version runs")
    assert json.loads(report.read_text())["tiny"]
