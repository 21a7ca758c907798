"""The model artifact: the worker reads what training writes, and both compute the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from images.decode import decode
from inference.artifact import read_card
from inference.classifier import Classifier, Loader
from inference.errors import ArtifactError
from scripts.local.config import REPOSITORY
from tests.conftest import SAMPLES, SHIPPED_MODEL
from training import data, export, publish, recipe
from training.batches import normalise
from training.data import Dataset, Split
from training.model import Net
from training.weights import WEIGHTS_FILE, read_teacher, write_weights

LOADER = Loader(cpu_threads=1, max_batch_size=64)
CLASSES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module", params=[(2, 0), (3, 1)], ids=["plain", "residual, padded"])
def net(request: pytest.FixtureRequest) -> Net:
    """A network whose batch norms have statistics, so that folding them has an effect."""
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


@pytest.fixture(scope="module")
def artifact(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (40, 32, 32, 3), np.uint8), random.integers(0, 4, 40)
    split = Split(images, labels)
    models = tmp_path_factory.mktemp("models")
    model = export.Served(export.Calibrated(export.fold(net), 1.7), recipe.MEAN, recipe.STD)
    with publish.draft(models) as folder:
        dataset = Dataset("noise", CLASSES, split, split)
        card, _ = publish.write_files(model, dataset, split, "2026-01-02T03:04:05+00:00", folder, seed=0)
        write_weights(net, 1.7, CLASSES, folder / WEIGHTS_FILE)
        return publish.publish(folder, card, {"map": b"PNG"}, models)


def copy(artifact: Path, models: Path) -> Path:
    return Path(shutil.copytree(artifact, models / artifact.name))


def expect(net: Net, images: torch.Tensor) -> torch.Tensor:
    """The calibrated logits of the trained network."""
    with torch.no_grad():
        return net(normalise(images.permute(0, 3, 1, 2))) / 1.7


def test_the_exported_model_on_raw_bytes_equals_the_trained_one_on_normalised_tensors(
    net: Net, artifact: Path, tmp_path: Path
) -> None:
    float32 = copy(artifact, tmp_path)
    card = json.loads((float32 / "card.json").read_text())
    del card["files"]["model.int8.onnx"]
    (float32 / "card.json").write_text(json.dumps(card))
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    probabilities, energies = LOADER.load(float32)([image.tobytes() for image in images])
    logits = expect(net, torch.from_numpy(images))
    np.testing.assert_allclose(probabilities, logits.softmax(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(energies, -logits.logsumexp(1).numpy(), atol=1e-4)


def test_the_int8_probabilities_are_close_to_those_of_the_trained_network(net: Net, artifact: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    classifier = LOADER.load(artifact)
    assert "int8" in classifier.device_name
    probabilities, _ = classifier([image.tobytes() for image in images])
    expected = expect(net, torch.from_numpy(images)).softmax(1).numpy()
    assert np.abs(probabilities - expected).sum(1).mean() / 2 < 0.1


def test_the_worker_accepts_a_card_with_as_many_classes_as_training_allows(
    artifact: Path, tmp_path: Path
) -> None:
    folder = copy(artifact, tmp_path)
    classes = [f"class {number}" for number in range(data.MAX_CLASSES)]
    confusion = [[10] * len(classes)] * len(classes)  # ten million test images
    card = json.loads((folder / "card.json").read_text()) | {"classes": classes, "confusion": confusion}
    (folder / "card.json").write_text(json.dumps(card, indent=2))
    assert read_card(folder)[1]["confusion"] == confusion


def test_training_reads_back_the_weights_it_wrote(artifact: Path, net: Net) -> None:
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    teacher = read_teacher(artifact, CLASSES)
    with torch.no_grad():
        answers = teacher(normalise(images.permute(0, 3, 1, 2)))
    torch.testing.assert_close(answers, expect(net, images), atol=1e-4, rtol=1e-4)


def test_no_file_of_an_artifact_contains_a_path_of_the_training_machine(artifact: Path) -> None:
    for file in artifact.iterdir():
        content = file.read_bytes()
        assert str(REPOSITORY).encode() not in content, file.name
        assert b"site-packages" not in content, file.name


def test_a_model_file_that_differs_from_its_card_is_refused(artifact: Path, tmp_path: Path) -> None:
    folder = copy(artifact, tmp_path)
    card = json.loads((folder / "card.json").read_text())
    card["files"]["model.onnx"]["sha256"] = "0" * 64
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ArtifactError, match="SHA-256"):
        LOADER.load(folder)


def test_a_damaged_model_file_is_refused(artifact: Path, tmp_path: Path) -> None:
    folder = copy(artifact, tmp_path)
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ArtifactError):
        LOADER.load(folder)


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return LOADER.load(SHIPPED_MODEL)


def test_the_shipped_model_uses_int8_on_this_cpu(shipped: Classifier) -> None:
    assert "int8" in shipped.device_name
    assert len(shipped.classes) == 10


def test_the_shipped_model_labels_most_samples_correctly(shipped: Classifier) -> None:
    samples = sorted(SAMPLES.glob("*.jpg"))
    answers, _ = shipped([decode(sample.read_bytes(), 10**6) for sample in samples])
    labels = [shipped.classes[index] for index in answers.argmax(1)]
    right = sum(label == sample.stem for label, sample in zip(labels, samples, strict=True))
    assert right >= 8, labels  # the card states about 9 of 10 for unseen images
