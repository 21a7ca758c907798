"""A whole training run, small: it learns, it repeats, and what it publishes is complete."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training import train
from training.data import Split

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that differ in colour, under noise."""
    root, random = tmp_path_factory.mktemp("tree"), np.random.default_rng(0)
    for split, count in (("train", 100), ("test", 20)):
        for channel, name in enumerate(("reddish", "greenish")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 200, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] |= 128
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def options(tree: Path, models: Path, *, activate: bool = False) -> train.Options:
    return train.Options(tree, "two colours", models, models / "cache", epochs=6, seed=1, activate=activate)


def test_a_run_learns_and_publishes_a_complete_artifact(tree: Path, tmp_path: Path) -> None:
    artifact = train.run(options(tree, tmp_path))
    card = json.loads((artifact / "card.json").read_text())
    assert card["accuracy"] >= 0.9
    assert card["classes"] == ["greenish", "reddish"]
    assert card["version"] == artifact.name == f"{card['created'][:10]}-{card['sha256'][:8]}"
    assert hashlib.sha256((artifact / "model.safetensors").read_bytes()).hexdigest() == card["sha256"]
    assert np.sum(card["confusion"]) == card["data"]["test_images"] == 40
    assert card["data"]["name"] == "two colours"
    assert set(card["class_accuracy"]) == set(card["classes"])
    assert {"seed", "epochs", "seconds", "hardware", "versions"} <= set(card["training"])
    assert not list(tmp_path.glob(".partial*"))


def test_bad_data_ends_the_command_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train", "--data", str(tmp_path / "nowhere")])
    assert train.main() == 2
    assert "does not exist" in capsys.readouterr().err


def test_flips_alternate_so_that_two_epochs_show_each_image_both_ways() -> None:
    torch.manual_seed(0)
    images = np.zeros((50, 32, 32, 3), dtype=np.uint8)
    images[:, :, :16] = 255  # bright on the left
    batches = train.Batches(Split(images, np.arange(50)), DEVICE)
    bright: list[dict[int, bool]] = []
    for epoch in (0, 1, 2):
        (batch,) = list(batches.epoch(epoch))
        left = batch[0][:, :, :, :8].mean((1, 2, 3)) > batch[0][:, :, :, -8:].mean((1, 2, 3))
        bright.append(dict(zip(batch[1].tolist(), left.tolist(), strict=True)))
    assert all(bright[0][label] != bright[1][label] for label in range(50))
    assert bright[0] == bright[2]
    assert 10 < sum(bright[0].values()) < 40


def test_an_epoch_shows_every_image_once() -> None:
    count = train.BATCH_SIZE + 7
    split = Split(np.zeros((count, 32, 32, 3), dtype=np.uint8), np.arange(count))
    labels = torch.cat([labels for _, labels in train.Batches(split, DEVICE).epoch(0)])
    assert sorted(labels.tolist()) == list(range(count))


def test_crops_reach_every_place_and_no_further() -> None:
    torch.manual_seed(0)
    image = torch.arange(36 * 36).view(1, 1, 36, 36).expand(400, 3, 36, 36)
    corners = train.random_crop(image, 32)[:, 0, 0, 0]
    places = {divmod(int(corner), 36) for corner in corners}
    assert places == {(row, column) for row in range(5) for column in range(5)}


def test_learning_rates_fall_to_zero_and_the_whitening_bias_first() -> None:
    optimizers = train.build_optimizers(train.Net(2))
    train.decay_learning_rates(optimizers, step=30, steps=80, whiten_steps=30)
    sgd, muon = optimizers
    assert [group["lr"] for group in sgd.param_groups] == pytest.approx([0, 0.053 * 0.625, 0.67 * 0.625])
    assert muon.param_groups[0]["lr"] == pytest.approx(0.24 * 0.625)
