"""Small artifacts for tests, whole or broken in one place."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

CLASSES = ["cat", "dog", "frog"]
LAYERS: list[dict[str, Any]] = [
    {"op": "normalise"},
    {"op": "conv2d", "padding": 1},
    {"op": "residual", "layers": [{"op": "conv2d", "padding": 1}, {"op": "gelu"}]},
    {"op": "max_pool2d", "size": 8},
    {"op": "flatten"},
    {"op": "linear"},
    {"op": "softmax"},
]


def make_tensors(seed: int = 0) -> dict[str, Tensor]:
    """For LAYERS."""
    torch.manual_seed(seed)
    return {
        "0.scale": torch.full((1, 3, 1, 1), 1 / 64),
        "0.shift": torch.full((1, 3, 1, 1), -2.0),
        "1.weight": torch.randn(4, 3, 3, 3),
        "1.bias": torch.randn(4),
        "2.0.weight": torch.randn(4, 4, 3, 3) / 6,
        "2.0.bias": torch.randn(4),
        "5.weight": torch.randn(len(CLASSES), 4 * 4 * 4) / 8,
    }


def encode(
    layers: Sequence[Any] = LAYERS,
    tensors: Mapping[str, Tensor] | None = None,
    **metadata: str,
) -> bytes:
    """A model file."""
    about = {"format": "layers/2", "layers": json.dumps(layers)} | metadata
    return save(dict(make_tensors() if tensors is None else tensors), about)


def publish(models: Path, version: str = "v1", /, model: bytes | None = None, **card: Any) -> Path:
    """A version's folder, with these changes to its card; None removes a key."""
    folder = models / version
    folder.mkdir(parents=True)
    content = encode() if model is None else model
    (folder / "model.safetensors").write_bytes(content)
    whole = {
        "version": version,
        "format": "layers/2",
        "sha256": hashlib.sha256(content).hexdigest(),
        "classes": CLASSES,
        "input_size": 32,
        "accuracy": 0.9,
        "data": {"test_sha256": "same"},
    }
    whole = {key: value for key, value in (whole | card).items() if value is not None}
    (folder / "card.json").write_text(json.dumps(whole))
    return folder
