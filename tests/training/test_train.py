"""Whole runs of small networks: what they learn, publish and report."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from scripts.local.config import REPOSITORY
from tests.training.small import SMALL
from training import evaluate, loop, pictures, publish, train
from training.data import Split
from training.errors import TeacherError
from training.recipe import RECIPES
from training.report import Report
from training.weights import read_teacher


@pytest.fixture(scope="module", autouse=True)
def _small_networks() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, recipe in SMALL.items():
            patch.setitem(RECIPES, name, recipe)
        yield


@pytest.fixture
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take half of a small run's time, and `published` has them."""
    monkeypatch.setattr(pictures, "draw", lambda *_: {})


def options(data: Path, models: Path, **changes: Any) -> Namespace:
    given: dict[str, Any] = {
        "data": data, "name": "two colours", "models": models, "cache": models / ".cache",
        "recipe": "fast", "epochs": 4, "seed": 1, "activation": "better",
        "teacher": None, "checkpoint": None, "report": "terminal",
    }  # fmt: skip
    return Namespace(**given | changes)


@pytest.fixture(scope="module")
def published(two_colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    artifact = train.run(options(two_colours, tmp_path_factory.mktemp("models")), Report())
    assert artifact is not None
    return artifact


def read_card(artifact: Path) -> dict[str, Any]:
    return json.loads((artifact / "card.json").read_text())


def test_a_run_learns_and_publishes_a_complete_artifact(published: Path) -> None:
    card = read_card(published)
    assert card["accuracy"] >= 0.9
    assert card["classes"] == ["greenish", "reddish"]
    for name, file in card["files"].items():
        assert hashlib.sha256((published / name).read_bytes()).hexdigest() == file["sha256"]
        assert file["accuracy"] >= 0.9
        assert file["cpu_ms_per_image"]["batch_64"] > 0
    assert set(card["files"]) == {"model.onnx", "model.int8.onnx"}
    sha256 = card["files"]["model.onnx"]["sha256"]
    assert card["version"] == published.name == f"{card['created'][:10]}-{sha256[:8]}"
    assert np.sum(card["confusion"]) == card["data"]["test_images"] == 40
    assert card["data"]["name"] == "two colours"
    assert card["data"]["held_out"] == 20
    assert set(card["class_accuracy"]) == set(card["classes"])
    assert {"seed", "epochs", "seconds", "hardware", "versions"} <= set(card["training"])
    assert [epoch["number"] for epoch in card["training"]["curve"]] == [1, 2, 3, 4]
    assert set(card["unfamiliar"]["detected"]) == {"noise", "faint noise", "plain colours", "shuffled tiles"}
    assert {file.name for file in published.glob("*.png")} == {
        "learning-curve.png", "confusion.png", "reliability.png", "mistakes.png",
    }  # fmt: skip


def test_a_published_artifact_is_readable_for_other_users_whatever_the_umask(tmp_path: Path) -> None:
    """The containers of the inference workers have users of their own."""
    card = {"created": "2026-01-02T03:04:05", "files": {"model.onnx": {"sha256": "0" * 64}}}
    before = os.umask(0o077)
    try:
        with publish.draft(tmp_path) as folder:
            artifact = publish.publish(folder, card, {"map": b"PNG"}, tmp_path)
    finally:
        os.umask(before)
    assert {file.name for file in artifact.iterdir()} == {"card.json", "map.png"}
    assert {oct(file.stat().st_mode)[-3:] for file in artifact.iterdir()} == {"644"}
    assert oct(artifact.stat().st_mode)[-3:] == "755"


@pytest.mark.usefixtures("_no_pictures")
def test_an_int8_model_that_loses_accuracy_is_not_published_and_the_card_says_so(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MAX_INT8_LOSS", -2.0)  # even a loss of minus one hundred points is too much
    artifact = train.run(options(two_colours, tmp_path, epochs=1), Report())
    assert artifact is not None
    card = read_card(artifact)
    assert not (artifact / "model.int8.onnx").exists()
    assert set(card["files"]) == {"model.onnx"}
    assert "on the held-out images" in card["int8_rejected"]


def test_the_card_has_no_gpu_times_if_the_cpu_runs_the_model_in_the_gpus_place(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = evaluate.Engine(published / "model.onnx")
    answers = engine.answer(Split(np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, np.int64)))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [publish.CUDA])
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):  # it is not available, and the CPU runs
        figures = publish.measure(published / "model.onnx", answers, answers)
    assert "cpu_ms_per_image" in figures and "gpu_ms_per_image" not in figures


@pytest.mark.usefixtures("_no_pictures")
def test_the_same_run_again_publishes_another_version_but_its_resumption_does_not(
    published: Path, two_colours: Path, tmp_path: Path
) -> None:
    """A run is resumed after its last epoch if its worker was killed before it stored the outcome."""
    checkpoint = tmp_path / ".runs" / "mine.checkpoint"
    asked = options(two_colours, tmp_path, activation="always", checkpoint=checkpoint)
    again = train.run(asked, Report())
    assert again is not None
    assert again.name != published.name
    card = read_card(again)
    assert card["activation"] == "always"
    assert train.run(asked, Report()) == again
    assert read_card(again) == card
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == [again.name]
    assert not list(tmp_path.glob(".partial-*"))


def test_nothing_half_written_is_left_behind(published: Path) -> None:
    assert [entry.name for entry in published.parent.iterdir() if entry.name != published.name] == [".runs"]
    assert not list((published.parent / ".runs").iterdir())


@pytest.mark.usefixtures("_no_pictures")
def test_a_student_learns_the_answers_of_its_teacher(
    published: Path, two_colours: Path, tmp_path: Path
) -> None:
    artifact = train.run(options(two_colours, tmp_path, teacher=published, seed=2), Report())
    assert artifact is not None
    card = read_card(artifact)
    assert card["training"]["teacher"] == published.name
    assert card["accuracy"] >= 0.9


def test_a_teacher_with_other_classes_or_without_weights_is_refused(published: Path, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="other classes"):
        read_teacher(published, ["cat", "dog"])
    with pytest.raises(TeacherError, match="cannot be read"):
        read_teacher(tmp_path, ["cat", "dog"])
    (tmp_path / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(TeacherError, match="cannot be read"):
        read_teacher(tmp_path, ["cat", "dog"])


ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


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


@pytest.mark.usefixtures("_no_pictures")
def test_the_command_and_the_card_list_the_files_that_are_left_out(
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
    assert [(note["files"], note["examples"][0]) for note in card_data["left_out"]] == [
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


@pytest.mark.usefixtures("_no_pictures")
def test_the_same_command_resumes_an_interrupted_run(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = command(two_colours, tmp_path, "--epochs", "40")
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background
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
    assert "epoch  40:" in written
    (artifact,) = [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
    assert len(read_card(artifact)["training"]["curve"]) == 40


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
    assert "infinite in epoch 2" in capsys.readouterr().err
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


def test_another_error_of_pytorch_is_not_explained_as_memory(
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
