"""The model artifact: what training writes, the worker reads, and both compute the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.uploads import INPUT_SIZE
from inference import classifier
from inference.errors import ArtifactError
from scripts.local.config import REPOSITORY
from training import export, train
from training.model import Net

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> Net:
    """A network whose batch norms have seen something, so that folding them has an effect."""
    torch.manual_seed(0)
    net = Net(classes=4)
    images = torch.randn(64, 3, 32, 32)
    net.set_whitening(images)
    net.train()
    with torch.no_grad():
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.bias.normal_()
        net(images)
    return net.eval()


@pytest.fixture
def artifact(net: Net, tmp_path: Path) -> Path:
    model = export.fold(net, train.MEAN, train.STD, temperature=1.7)
    card = {"created": "2026-01-02T03:04:05+00:00", "classes": ["a", "b", "c", "d"], "input_size": 32}
    return export.publish(model, card, tmp_path)


def test_the_exported_model_on_raw_bytes_equals_the_trained_one_on_normalised_tensors(
    net: Net, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "has_fast_bfloat16", lambda _: False)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    served = classifier.load(artifact, CPU)([image.tobytes() for image in images])
    with torch.no_grad():
        logits = net(train.normalise(torch.from_numpy(images).permute(0, 3, 1, 2)))
    expected = (logits / 1.7).softmax(1).numpy()
    np.testing.assert_allclose(served, expected, atol=1e-5)
    np.testing.assert_allclose(served.sum(1), 1, atol=1e-5)


def test_a_model_file_that_its_card_does_not_describe_is_refused(artifact: Path) -> None:
    card = artifact / "card.json"
    card.write_text(card.read_text().replace(json.loads(card.read_text())["sha256"], "0" * 64))
    with pytest.raises(ArtifactError, match="SHA-256"):
        classifier.load(artifact, CPU)


def test_a_damaged_model_file_is_refused(artifact: Path) -> None:
    (artifact / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ArtifactError):
        classifier.load(artifact, CPU)


def test_a_missing_pointer_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="active"):
        classifier.load_active(tmp_path, CPU)


def test_publishing_twice_keeps_both_and_activation_names_one(net: Net, artifact: Path) -> None:
    other = export.publish(
        export.fold(net, train.MEAN, train.STD, temperature=1.0),
        {"created": "2026-01-03T00:00:00+00:00", "classes": ["a", "b", "c", "d"], "input_size": 32},
        artifact.parent,
    )
    export.activate(other)
    assert classifier.load_active(artifact.parent, CPU).version == other.name != artifact.name


def test_the_shipped_model_takes_what_the_backend_stores() -> None:
    shipped = classifier.load_active(REPOSITORY / "models", CPU)
    assert shipped.input_size == INPUT_SIZE
    assert len(shipped.classes) == 10


def test_the_shipped_model_labels_the_samples() -> None:
    from backend.settings import Settings
    from backend.uploads import decode

    settings = Settings(database_url="postgresql://x", broker_url="amqp://x")  # pyright: ignore
    shipped = classifier.load_active(REPOSITORY / "models", CPU)
    samples = sorted((REPOSITORY / "ui/public/samples").glob("*.jpg"))
    answers = shipped([decode(sample.read_bytes(), settings) for sample in samples])
    labels = [shipped.classes[index] for index in answers.argmax(1)]
    right = sum(label == sample.stem for label, sample in zip(labels, samples, strict=True))
    assert right >= 8, labels  # the card says 9 of 10 for images that it has not seen
