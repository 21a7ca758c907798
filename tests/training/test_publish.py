"""Whole runs of small networks: what they learn, and the artifact that they publish."""

import hashlib
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.training.conftest import read_card
from training import evaluate, publish, train
from training.data import Split
from training.errors import TeacherError
from training.report import Report
from training.weights import read_teacher

pytestmark = pytest.mark.usefixtures("small_networks")

CARD = {"created": "2026-01-02T03:04:05", "files": {"model.onnx": {"sha256": "0" * 64}}}
CARD_DAY = "2026-01-02"


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


def test_a_run_learns_and_publishes_models_pictures_and_a_card(published: Path) -> None:
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
    """An inference worker may run as another user than the training."""
    before = os.umask(0o077)
    try:
        with publish.draft(tmp_path) as folder:
            artifact = publish.publish(folder, CARD, {"map": b"PNG"}, tmp_path)
    finally:
        os.umask(before)
    assert {file.name for file in artifact.iterdir()} == {"card.json", "map.png"}
    assert {oct(file.stat().st_mode)[-3:] for file in artifact.iterdir()} == {"644"}
    assert oct(artifact.stat().st_mode)[-3:] == "755"


def test_an_unreadable_card_of_another_version_does_not_prevent_a_publication(tmp_path: Path) -> None:
    for name in ("pipe", "folder"):
        (tmp_path / f"{CARD_DAY}-{name}").mkdir()
    os.mkfifo(tmp_path / f"{CARD_DAY}-pipe/card.json")  # reading it would wait for a writer
    (tmp_path / f"{CARD_DAY}-folder/card.json").mkdir()
    with publish.draft(tmp_path) as folder:
        assert (publish.publish(folder, CARD, {}, tmp_path) / "card.json").is_file()


@pytest.mark.usefixtures("no_pictures")
def test_an_int8_model_that_loses_accuracy_is_not_published_and_the_card_says_so(
    two_colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MAX_INT8_LOSS", -2.0)  # rejects every int8 model
    artifact = train.run(options(two_colours, tmp_path, epochs=1), Report())
    assert artifact is not None
    card = read_card(artifact)
    assert not (artifact / "model.int8.onnx").exists()
    assert set(card["files"]) == {"model.onnx"}
    assert "on the held-out images" in card["int8_rejected"]


def test_the_card_has_no_gpu_times_if_the_model_falls_back_to_the_cpu(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = evaluate.Engine(published / "model.onnx")
    answers = engine.answer(Split(np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, np.int64)))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [publish.CUDA])
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):  # CUDA is not available: the CPU runs
        figures = publish.measure(published / "model.onnx", answers, answers)
    assert "cpu_ms_per_image" in figures and "gpu_ms_per_image" not in figures


@pytest.mark.usefixtures("no_pictures")
def test_a_repeated_run_publishes_a_new_version_and_a_resumed_run_does_not(
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


@pytest.mark.usefixtures("no_pictures")
def test_a_run_with_a_teacher_learns_and_names_the_teacher_in_its_card(
    published: Path, two_colours: Path, tmp_path: Path
) -> None:
    artifact = train.run(options(two_colours, tmp_path, teacher=published, seed=2), Report())
    assert artifact is not None
    card = read_card(artifact)
    assert card["training"]["teacher"] == published.name
    assert card["accuracy"] >= 0.9


def test_a_teacher_with_other_classes_or_without_readable_weights_is_refused(
    published: Path, tmp_path: Path
) -> None:
    with pytest.raises(TeacherError, match="must have exactly the classes"):
        read_teacher(published, ["cat", "dog"])
    with pytest.raises(TeacherError, match="cannot be read"):
        read_teacher(tmp_path, ["cat", "dog"])
    (tmp_path / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(TeacherError, match="cannot be read"):
        read_teacher(tmp_path, ["cat", "dog"])
