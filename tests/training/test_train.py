"""A whole run, small: it learns, what it publishes is complete, and it speaks to people and programs."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts.local.config import REPOSITORY
from training import publish, recipe, train
from training.errors import DataError, Diverged, OtherRun, TeacherError
from training.report import Silent
from training.weights import read_teacher


def options(data: Path, models: Path, **changes: Any) -> train.Options:
    given: dict[str, Any] = {
        "data": data, "name": "two colours", "models": models, "cache": models / ".cache",
        "recipe": "fast", "epochs": 4, "seed": 1, "activation": "better",
        "teacher": None, "checkpoint": None, "report": "terminal",
    }  # fmt: skip
    return train.Options(**given | changes)


@pytest.fixture(scope="module")
def published(two_colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    artifact = train.run(options(two_colours, tmp_path_factory.mktemp("models")), Silent())
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


def test_other_users_can_read_what_a_cautious_one_publishes(tmp_path: Path) -> None:
    """The workers' containers have users of their own."""
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


def test_int8_that_is_less_accurate_is_not_published_and_the_card_says_so(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MAX_INT8_LOSS", -2.0)  # a loss of minus one hundred points is too much
    artifact = train.run(options(two_colours, tmp_path, epochs=1), Silent())
    assert artifact is not None
    card = read_card(artifact)
    assert not (artifact / "model.int8.onnx").exists()
    assert set(card["files"]) == {"model.onnx"}
    assert "points fewer of the held-out images" in card["int8_rejected"]


def test_the_same_run_again_is_a_version_of_its_own(
    published: Path, two_colours: Path, tmp_path: Path
) -> None:
    """Else what it asks for, to be served for instance, would be lost with its card."""
    again = train.run(options(two_colours, tmp_path, activation="always"), Silent())
    assert again is not None
    assert again.name != published.name
    assert read_card(again)["activation"] == "always"


def test_a_run_that_is_resumed_after_its_last_epoch_publishes_no_second_version(
    two_colours: Path, tmp_path: Path
) -> None:
    """As when its worker was killed before it could write that it is done."""
    asked = options(two_colours, tmp_path, epochs=1, checkpoint=tmp_path / ".runs" / "mine.checkpoint")
    first = train.run(asked, Silent())
    assert first is not None
    card = read_card(first)
    assert train.run(asked, Silent()) == first
    assert read_card(first) == card
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == [first.name]
    assert not list(tmp_path.glob(".partial-*"))


def test_nothing_half_written_is_left_behind(published: Path) -> None:
    assert [entry.name for entry in published.parent.iterdir() if entry.name != published.name] == [".runs"]
    assert not list((published.parent / ".runs").iterdir())


def test_a_student_learns_what_its_teacher_answers(
    published: Path, two_colours: Path, tmp_path: Path
) -> None:
    artifact = train.run(options(two_colours, tmp_path, teacher=published, seed=2), Silent())
    assert artifact is not None
    card = read_card(artifact)
    assert card["training"]["teacher"] == published.name
    assert card["accuracy"] >= 0.9


def test_a_teacher_that_does_not_fit_is_refused(published: Path, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="other classes"):
        read_teacher(published, ["cat", "dog"])
    with pytest.raises(TeacherError, match="cannot be read"):
        read_teacher(tmp_path, ["cat", "dog"])
    (tmp_path / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(TeacherError, match="cannot be read"):
        read_teacher(tmp_path, ["cat", "dog"])


ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def command(data: Path, models: Path, *more: str) -> list[str]:
    places = ["--data", str(data), "--models", str(models), "--cache", str(models / ".cache")]
    return ["-m", "training.train", *places, "--epochs", "3", "--name", "two colours", *more]


def test_the_command_speaks_to_a_program_in_json_lines(two_colours: Path, tmp_path: Path) -> None:
    images = shutil.copytree(two_colours, tmp_path / "images")
    (images / "train/reddish/labels.csv").write_text("name,label")
    child = subprocess.Popen(
        [sys.executable, *command(images, tmp_path, "--report", "json", "--recipe", "fast")],
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


def test_what_was_left_out_is_told_and_in_the_card(two_colours: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(two_colours, images)
    (images / "train/reddish/.ipynb_checkpoints").mkdir()
    (images / "train/reddish/labels.csv").write_text("name,label")
    (images / "train/greenish/7.png").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, *command(images, tmp_path / "models", "--epochs", "1")],
        capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=120, env=ONE_THREAD,
    )  # fmt: skip
    assert "left out, system files and folders: 1 (train/reddish/.ipynb_checkpoints/)\n" in done.stdout
    assert "left out, unreadable images: 1 (train/greenish/7.png (The file is empty.))\n" in done.stdout
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
        [sys.executable, *command(two_colours, tmp_path, "--report", "json", "--epochs", "1000")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, env=ONE_THREAD,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        assert any(b'"epoch"' in line for line in child.stdout)
        child.stdin.close()
        assert child.wait(10) == 1


def test_an_interrupted_command_goes_on_where_it_was(two_colours: Path, tmp_path: Path) -> None:
    run = [sys.executable, *command(two_colours, tmp_path, "--epochs", "12")]
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background
    child = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    signal.signal(signal.SIGINT, before)
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        assert any(line.startswith("epoch   2") for line in child.stdout)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        assert "goes on from the last whole epoch" in child.stderr.read()
    again = subprocess.run(
        run, capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=120, env=ONE_THREAD
    )
    assert "epoch   1:" not in again.stdout
    assert "epoch  12:" in again.stdout
    (artifact,) = [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
    assert len(read_card(artifact)["training"]["curve"]) == 12


def test_the_command_runs_in_two_processes_and_publishes_once(two_colours: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two = subprocess.run(
        [*torchrun, *command(two_colours, tmp_path, "--recipe", "accurate")],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=180, check=False,
        env=ONE_THREAD,
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("epoch   3:") == 1
    (artifact,) = [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
    card = read_card(artifact)
    assert card["training"]["processes"] == 2
    assert card["accuracy"] >= 0.9


def test_bad_data_ends_the_command_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train", "--data", str(tmp_path / "nowhere")])
    assert train.main() == DataError.status
    assert "does not exist" in capsys.readouterr().err


def test_the_checkpoint_of_another_run_ends_the_command_in_words(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    torch.save({"of": "someone else's"}, checkpoint)
    flags = command(two_colours, tmp_path, "--checkpoint", str(checkpoint))[2:]
    monkeypatch.setattr("sys.argv", ["train", *flags])
    assert train.main() == OtherRun.status
    assert "someone else's" in capsys.readouterr().err


def test_a_run_that_diverges_ends_the_command_in_words_and_leaves_no_checkpoint(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_epoch = recipe.train_epoch

    def diverge_in_the_second(net: Any, batches: Any, number: int, *rest: Any) -> list[float]:
        return [math.inf, 0.0, 1.0] if number == 1 else train_epoch(net, batches, number, *rest)

    monkeypatch.setattr(recipe, "train_epoch", diverge_in_the_second)
    monkeypatch.setattr("sys.argv", ["train", *command(two_colours, tmp_path)[2:]])
    assert train.main() == Diverged.status
    assert "in epoch 2 the loss" in capsys.readouterr().err
    assert list((tmp_path / ".runs").iterdir()) == []


@pytest.mark.parametrize("flags", [["--epochs", "0"], ["--seed", "-1"], ["--recipe", "best"]])
def test_an_option_out_of_its_range_is_refused(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train", *flags])
    with pytest.raises(SystemExit):
        train.main()
    assert flags[0] in capsys.readouterr().err
