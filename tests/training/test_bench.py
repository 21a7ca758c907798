"""The benchmark runs the training command and prints a table of the figures in the cards."""

import sys
from pathlib import Path

import pytest

from training import bench

FAKE_TRAIN = """
import json, pathlib, sys
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if flags["--seed"] == flags.get("--fail"):
    sys.exit(3)
share = 0.25 + 0.5 * int(flags["--seed"])
card = dict.fromkeys(("accuracy", "accuracy_six_views", "accuracy_after_upload", "calibration_error"), share)
card |= {"data": {"name": "two colours"}, "training": {"epochs": 2, "hardware": "CPU", "seconds": 10 * share}}
folder = pathlib.Path(flags["--models"], "version")
folder.mkdir()
(folder / "card.json").write_text(json.dumps(card))
"""


def run(monkeypatch: pytest.MonkeyPatch, *flags: str, fake: bool) -> int:
    monkeypatch.setattr("sys.argv", ["bench", *flags])
    return bench.main((sys.executable, "-c", FAKE_TRAIN)) if fake else bench.main()


def read(table: str) -> list[list[str]]:
    """The cells of the rows after the header."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[4:-2]]


def test_the_table_has_all_runs_then_their_mean_and_deviation(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--runs", "2", fake=True) == 0
    table = capfd.readouterr().out
    assert table.startswith("fast, 2 epochs, two colours")
    assert table.splitlines()[-1].startswith("n = 2")
    rows = read(table)
    assert [row[0] for row in rows] == ["0", "1", "mean", "deviation"]
    assert {len(row) for row in rows} == {len(bench.COLUMNS) + 1}
    assert [[row[1], *row[3:]] for row in rows] == [
        ["2.50", *["25.00"] * 4],
        ["7.50", *["75.00"] * 4],
        ["5.00", *["50.00"] * 4],
        ["3.54", *["35.36"] * 4],
    ]
    first, second, mean = (float(row[2]) for row in rows[:3])  # wall clock
    assert abs((first + second) / 2 - mean) < 0.02


def test_the_benchmark_runs_the_real_command_and_reads_its_card(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = ["--data", str(two_colours), "--cache", str(tmp_path), "--epochs", "1", "--name", "two colours"]
    assert run(monkeypatch, "--runs", "1", *flags, fake=False) == 0
    captured = capfd.readouterr()
    assert captured.out.startswith("fast, 1 epochs, two colours")
    assert "epoch   1:" in captured.err
    row, mean = read(captured.out)
    assert (row[0], mean[0]) == ("0", "mean")
    assert row[1:] == mean[1:] and len(row) == len(bench.COLUMNS) + 1
    assert all(float(cell) >= 0 for cell in row)


def test_a_run_that_fails_ends_the_benchmark(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--runs", "3", "--fail", "0", fake=True) == 3
    assert capfd.readouterr().out == ""
