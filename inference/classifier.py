"""The model artifact, loaded and run: images in, probabilities out.

`docs/model-artifact.md` is the contract. Loading reads JSON and raw tensors; it runs no code that
an artifact could bring along.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inference.errors import ArtifactError

FORMAT = "layers/1"
CHANNELS = 3

Layer = Callable[[Tensor], Tensor]


class Classifier:
    """One served model on one device. Not thread-safe: one forward pass at a time."""

    def __init__(self, layers: list[Layer], card: dict[str, Any], device: torch.device) -> None:
        self.version: str = card["version"]
        self.classes: list[str] = card["classes"]
        self.input_size: int = card["input_size"]
        self.device = device
        self._layers = layers

    def __call__(self, images: Sequence[bytes]) -> NDArray[np.float32]:
        """Classify RGB images of `input_size` squared times 3 bytes each.

        Returns probabilities (len(images), len(classes)), in the order given.
        """
        shape = (len(images), self.input_size, self.input_size, CHANNELS)
        batch = torch.frombuffer(bytearray().join(images), dtype=torch.uint8).view(shape)
        with torch.inference_mode():
            x = batch.to(self.device)
            for layer in self._layers:
                x = layer(x)
        return x.float().cpu().numpy()

    @property
    def device_name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        unit = "bfloat16" if has_fast_bfloat16(self.device) else "float32"
        return f"CPU ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {unit})"


def load_active(models: Path, device: torch.device) -> Classifier:
    """Load the version that the file `active` in `models` names. Raises ArtifactError."""
    try:
        version = (models / "active").read_text().strip()
    except OSError as error:
        raise ArtifactError(f"{models / 'active'} cannot be read: {error}") from error
    return load(models / version, device)


def load(artifact: Path, device: torch.device) -> Classifier:
    """Load one artifact folder onto `device`. Raises ArtifactError."""
    try:
        card = json.loads((artifact / "card.json").read_text())
        model_file = artifact / "model.safetensors"
        if hashlib.sha256(model_file.read_bytes()).hexdigest() != card["sha256"]:
            raise ArtifactError(f"{model_file} is not the file that its card describes (SHA-256 differs)")
        with safe_open(model_file, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ArtifactError(f"{model_file} has format {metadata.get('format')!r}, not {FORMAT!r}")
            tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118
        precision = torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
        layers = [
            _build_layer(description, index, tensors, precision)
            for index, description in enumerate(json.loads(metadata["layers"]))
        ]
        return Classifier(layers, card, device)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(f"{artifact} cannot be loaded: {error!r}") from error


def choose_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 runs on matrix or vector units here: a GPU's, AMX, or AVX-512's."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(unit, False) for unit in ("amx_bf16", "avx512_bf16"))


def _build_layer(
    description: dict[str, Any], index: int, tensors: dict[str, Tensor], precision: torch.dtype
) -> Layer:
    """One layer, its weights converted to `precision` once: autocast, which converts them at each call,
    made a lone image a third slower."""

    def tensor(name: str) -> Tensor:
        return tensors[f"{index}.{name}"]

    match description:
        case {"op": "normalise"}:
            scale, shift = tensor("scale"), tensor("shift")
            return lambda x: (x.permute(0, 3, 1, 2).float() * scale + shift).to(precision)
        case {"op": "conv2d", "padding": int(padding)}:
            weight = tensor("weight").to(precision, memory_format=torch.channels_last)
            bias = tensor("bias").to(precision)
            return lambda x: F.conv2d(x, weight, bias, padding=padding)
        case {"op": "max_pool2d", "size": int(size)}:
            return lambda x: F.max_pool2d(x, size)
        case {"op": "gelu"}:
            return F.gelu
        case {"op": "flatten"}:
            return lambda x: x.flatten(1)
        case {"op": "linear"}:
            matrix = tensor("weight").to(precision)
            return lambda x: F.linear(x, matrix)
        case {"op": "softmax"}:
            return lambda x: x.float().softmax(1)
        case _:
            raise ValueError(f"layer {index} is unknown: {description}")
