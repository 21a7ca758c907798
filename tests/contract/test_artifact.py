"""The model artifact: what training writes, the worker reads, and both compute the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from images.decode import decode
from images.fit import INPUT_SIZE
from inference import classifier
from inference.artifact import read_card
from inference.errors import ArtifactError
from scripts.local.config import REPOSITORY
from tests.conftest import SHIPPED_MODEL
from training import data, export, recipe
from training.model import Net

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[(2, 0), (3, 1)], ids=["plain", "residual, padded"])
def net(request: pytest.FixtureRequest) -> Net:
    """A network whose batch norms have seen something, so that folding them has an effect."""
    torch.manual_seed(0)
    net = Net(4, (16, 24, 32), *request.param)
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
    model = export.fold(net, recipe.MEAN, recipe.STD, temperature=1.7)
    card = {"created": "2026-01-02T03:04:05+00:00", "classes": ["a", "b", "c", "d"], "input_size": 32}
    return export.publish(model, card, {}, tmp_path)


def test_the_exported_model_on_raw_bytes_equals_the_trained_one_on_normalised_tensors(
    net: Net, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "has_fast_bfloat16", lambda _: False)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    served, energies = classifier.load(artifact, CPU)([image.tobytes() for image in images])
    with torch.no_grad():
        logits = net(recipe.normalise(torch.from_numpy(images).permute(0, 3, 1, 2)))
    expected = (logits / 1.7).softmax(1).numpy()
    np.testing.assert_allclose(served, expected, atol=1e-5)
    np.testing.assert_allclose(served.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(energies, -(logits / 1.7).logsumexp(1).numpy(), atol=1e-4)


def test_the_worker_takes_the_card_of_as_many_classes_as_training_does(net: Net, tmp_path: Path) -> None:
    model = export.fold(net, recipe.MEAN, recipe.STD, temperature=1.0)
    classes = [f"class {number}" for number in range(data.MAX_CLASSES)]
    confusion = [[10] * len(classes)] * len(classes)  # ten million test images
    card = {"created": "2026-01-02T03:04:05+00:00", "classes": classes, "input_size": 32}
    folder = export.publish(model, {**card, "confusion": confusion}, {}, tmp_path)
    assert read_card(folder)["confusion"] == confusion


def test_training_reads_back_what_it_has_written(artifact: Path, net: Net) -> None:
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    written = export.fold(net, recipe.MEAN, recipe.STD, temperature=1.7)
    read = export.read_model(artifact / "model.safetensors")
    with torch.inference_mode():
        torch.testing.assert_close(read(images), written(images))


def test_a_model_file_that_its_card_does_not_describe_is_refused(artifact: Path) -> None:
    card = artifact / "card.json"
    card.write_text(card.read_text().replace(json.loads(card.read_text())["sha256"], "0" * 64))
    with pytest.raises(ArtifactError, match="SHA-256"):
        classifier.load(artifact, CPU)


def test_a_damaged_model_file_is_refused(artifact: Path) -> None:
    (artifact / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ArtifactError):
        classifier.load(artifact, CPU)


def test_the_shipped_model_takes_what_the_backend_stores() -> None:
    shipped = classifier.load(SHIPPED_MODEL, CPU)
    assert shipped.input_size == INPUT_SIZE
    assert len(shipped.classes) == 10


def test_the_shipped_model_labels_the_samples() -> None:
    shipped = classifier.load(SHIPPED_MODEL, CPU)
    samples = sorted((REPOSITORY / "ui/public/samples").glob("*.jpg"))
    answers, _ = shipped([decode(sample.read_bytes(), max_pixels=10**6) for sample in samples])
    labels = [shipped.classes[index] for index in answers.argmax(1)]
    right = sum(label == sample.stem for label, sample in zip(labels, samples, strict=True))
    assert right >= 8, labels  # the card says 9 of 10 for images that it has not seen
