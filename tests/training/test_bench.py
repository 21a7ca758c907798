"""The benchmark gives the real command, and its table holds what the cards say."""

import os
import subprocess
import sys
from pathlib import Path

from scripts.local.config import REPOSITORY


def test_the_table_has_a_row_a_run_a_mean_and_a_deviation(two_colours: Path, tmp_path: Path) -> None:
    flags = ["--runs", "2", "--data", str(two_colours), "--cache", str(tmp_path), "--epochs", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "training.bench", *flags, "--name", "two colours"],
        capture_output=True, text=True, check=False, timeout=180, cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    title, _, header, _, *rows, _, note = done.stdout.splitlines()
    assert title.startswith("fast, 2 epochs, two colours")
    assert note.startswith("n = 2")
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == ["0", "1", "mean", "deviation"]
    assert {len(row) for row in cells} == {len(header.strip("|").split("|"))}
    first, second, mean = ([float(cell) for cell in row[1:]] for row in cells[:3])
    assert all(abs((a + b) / 2 - m) < 0.02 for a, b, m in zip(first, second, mean, strict=True))


def test_a_run_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    flags = ["--runs", "2", "--data", str(tmp_path / "nowhere")]
    done = subprocess.run(
        [sys.executable, "-m", "training.bench", *flags],
        capture_output=True, text=True, check=False, timeout=120, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 2
    assert "does not exist" in done.stderr
    assert not done.stdout
