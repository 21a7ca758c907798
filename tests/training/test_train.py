"""The training command: its reports, errors and options, and how it resumes."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.local.config import REPOSITORY
from tests.training.conftest import read_card
from training import loop, train

pytestmark = pytest.mark.usefixtures("small_networks")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}  # buffered, as usual for a pipe


def flags(data: Path, models: Path, *more: str) -> list[str]:
    places = ["--data", str(data), "--models", str(models), "--cache", str(models / ".cache")]
    return [*places, "--epochs", "3", "--name", "two colours", *more]


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "tests.training.small", *flags(*arguments)]


def test_the_command_reports_to_a_program_in_json_lines(two_colours: Path, tmp_path: Path) -> None:
    images = shutil.copytree(two_colours, tmp_path / "images")
    (images / "train/reddish/labels.csv").write_text("name,label")
    child = subprocess.Popen(
        command(images, tmp_path, "--report", "json", "--recipe", "fast"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY, env=ONE_THREAD,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdin is not None
    said: list[dict[str, Any]] = []
    with child:
        for line in child.stdout:
            said.append(json.loads(line))
            if said[-1] == {"phase": "publishing"}:
                assert not list(tmp_path.glob("*/card.json"))
                child.stdin.write(b"\n")
                child.stdin.flush()
        assert child.wait(60) == 0, child.stderr.read()
    assert [line["phase"] for line in said if "phase" in line] == [
        "reading", "training", "evaluating", "publishing",
    ]  # fmt: skip
    (note,) = [line["note"] for line in said if "note" in line]
    assert note.startswith("left out, ") and note.endswith(": 1 (train/reddish/labels.csv)")
    assert [line["epoch"]["number"] for line in said if "epoch" in line] == [1, 2, 3]
    assert next(line for line in said if "epochs" in line)["epochs"] == 3
    assert (tmp_path / said[-1]["published"] / "card.json").exists()


@pytest.mark.usefixtures("no_pictures")
def test_files_that_are_left_out_are_listed_by_the_command_and_in_the_card(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(two_colours, images)
    (images / "train/reddish/.ipynb_checkpoints").mkdir()
    (images / "train/reddish/labels.csv").write_text("name,label")
    (images / "train/greenish/7.png").write_bytes(b"")
    monkeypatch.setattr("sys.argv", ["train", *flags(images, tmp_path / "models", "--epochs", "1")])
    assert train.main() == 0
    written = capsys.readouterr().out
    assert "left out, system files and folders: 1 (train/reddish/.ipynb_checkpoints/)\n" in written
    assert "left out, unreadable images: 1 (train/greenish/7.png (The file is empty.))\n" in written
    (artifact,) = [entry for entry in (tmp_path / "models").iterdir() if not entry.name.startswith(".")]
    card_data = read_card(artifact)["data"]
    assert card_data["train_images"] == 199
    assert [(note["count"], note["examples"][0]) for note in card_data["left_out"]] == [
        (1, "train/reddish/labels.csv"),
        (1, "train/reddish/.ipynb_checkpoints/"),
        (1, "train/greenish/7.png (The file is empty.)"),
    ]


def test_the_command_ends_when_the_program_that_started_it_does(two_colours: Path, tmp_path: Path) -> None:
    child = subprocess.Popen(
        command(two_colours, tmp_path, "--report", "json", "--epochs", "1000"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, env=ONE_THREAD,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        assert any(b'"epoch"' in line for line in child.stdout)
        child.stdin.close()
        assert child.wait(10) == 1


@pytest.mark.usefixtures("no_pictures")
def test_the_same_command_resumes_an_interrupted_run(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = command(two_colours, tmp_path, "--epochs", "15")
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # background jobs of a shell ignore SIGINT
    child = subprocess.Popen(
        run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, env=ONE_THREAD
    )
    signal.signal(signal.SIGINT, before)
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        assert any(line.startswith("epoch   2") for line in child.stdout)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        assert "resumes after the last whole epoch" in child.stderr.read()
    monkeypatch.setattr("sys.argv", run[2:])
    assert train.main() == 0
    written = capsys.readouterr().out
    assert "epoch   1:" not in written
    assert "epoch  15:" in written
    (artifact,) = [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
    assert len(read_card(artifact)["training"]["curve"]) == 15


def test_bad_data_ends_the_command_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train", "--data", str(tmp_path / "nowhere")])
    assert train.main() == 1
    assert "does not exist" in capsys.readouterr().err


def test_the_checkpoint_of_another_run_ends_the_command_with_a_reason(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    torch.save({"of": "someone else's"}, checkpoint)
    given = flags(two_colours, tmp_path, "--checkpoint", str(checkpoint))
    monkeypatch.setattr("sys.argv", ["train", *given])
    assert train.main() == 1
    assert "someone else's" in capsys.readouterr().err


def test_a_run_that_diverges_ends_the_command_with_a_reason_and_leaves_no_checkpoint(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_epoch = loop.train_epoch

    def diverge_in_the_second(net: Any, batches: Any, number: int, *rest: Any) -> list[float]:
        return [math.inf, 0.0, 1.0] if number == 1 else train_epoch(net, batches, number, *rest)

    monkeypatch.setattr(loop, "train_epoch", diverge_in_the_second)
    monkeypatch.setattr("sys.argv", ["train", *flags(two_colours, tmp_path)])
    assert train.main() == 1
    assert "infinite or not a number in epoch 2" in capsys.readouterr().err
    assert list((tmp_path / ".runs").iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 is small."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_gpu_without_free_memory_ends_the_command_with_a_reason(
    error: RuntimeError,
    two_colours: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(loop, "train_epoch", fail)
    monkeypatch.setattr("sys.argv", ["train", *flags(two_colours, tmp_path)])
    assert train.main() == 1
    (said,) = capsys.readouterr().err.splitlines()[-1:]
    assert said.startswith(f"train: The GPU's memory is full: {str(error).splitlines()[0]}")
    assert said.endswith("or choose a smaller recipe.")


def test_another_error_of_pytorch_is_not_reported_as_full_memory(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(loop, "train_epoch", fail)
    monkeypatch.setattr("sys.argv", ["train", *flags(two_colours, tmp_path)])
    with pytest.raises(RuntimeError, match="illegal memory access"):
        train.main()


@pytest.mark.parametrize("option", [["--epochs", "0"], ["--seed", "-1"], ["--recipe", "best"]])
def test_an_option_out_of_its_range_is_refused(
    option: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train", *option])
    with pytest.raises(SystemExit):
        train.main()
    assert option[0] in capsys.readouterr().err
