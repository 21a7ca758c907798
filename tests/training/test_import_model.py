"""A user's torch module becomes a version that the inference worker serves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.classifier import Loader
from training import data
from training.errors import ModuleError
from training.import_model import import_model

TORCHVISION = """
import torch
from torch import nn
from torchvision.models import squeezenet1_1
from torchvision.transforms import Normalize
from beside import INFINITE

class Scale(nn.Module):
    def forward(self, images):
        return (images - 0.5) / 0.25

def build():
    torch.manual_seed(0)
    net = squeezenet1_1(num_classes=2)
    return nn.Sequential(nn.Upsample(64), Scale(), net)

def build_three():
    return squeezenet1_1(num_classes=3)

def build_unexportable():
    return nn.Sequential(Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)), squeezenet1_1(num_classes=2))

def build_infinite():
    return nn.Sequential(nn.Upsample(64), squeezenet1_1(num_classes=2), nn.Threshold(INFINITE, INFINITE))

def build_text():
    return "a model"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(TORCHVISION)
    (tmp_path / "beside.py").write_text("INFINITE = float('inf')\n")
    return file


def test_a_torchvision_network_is_published_and_served_with_nearly_the_same_probabilities(
    file: Path, two_colours: Path, tmp_path: Path
) -> None:
    dataset = data.load(two_colours, tmp_path / "cache")
    artifact = import_model(f"{file}:build", dataset, tmp_path / "models")
    card = json.loads((artifact / "card.json").read_text())
    assert card["training"]["recipe"] == "imported"
    assert card["classes"] == ["greenish", "reddish"]
    assert not (artifact / "learning-curve.png").exists()
    assert not (artifact / "weights.safetensors").exists()
    loaded = Loader(cpu_threads=1, max_batch_size=4).load(artifact)
    images = dataset.test.images[:8]
    probabilities, _ = loaded([image.tobytes() for image in images])
    scope: dict[str, object] = {}
    exec(TORCHVISION, scope)
    net = scope["build"]().eval()  # pyright: ignore
    with torch.inference_mode():
        logits = net(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    expected = (logits / card["temperature"]).softmax(1).numpy()
    assert np.abs(probabilities - expected).sum(1).mean() / 2 < 0.1


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("mine.py:build_three", r"\(2, 3\).*2 classes"),
        ("mine.py:build_text", "returns a str"),
        ("mine.py:build_infinite", "not finite"),
        ("mine.py:build_unexportable", "cannot be exported to ONNX"),
        ("mine.py:build_nobody", "no function 'build_nobody'"),
        ("other.py:build", "names no file"),
        ("mine.py", "names no file"),
    ],
)
def test_an_unusable_module_is_refused_with_a_reason(
    place: str, words: str, file: Path, two_colours: Path, tmp_path: Path
) -> None:
    dataset = data.load(two_colours, tmp_path / "cache")
    with pytest.raises(ModuleError, match=words):
        import_model(f"{file.parent}/{place}", dataset, tmp_path / "models")
