"""A model that is served: images in, probabilities and energies out."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference import artifact
from inference.errors import ArtifactError
from inference.layers import CHANNELS, Builder, Layer, check_cost

TRIAL_SEED = 0


class Classifier:
    """One version on one device. Not thread-safe: one forward pass at a time."""

    def __init__(self, layers: list[Layer], card: dict[str, Any], device: torch.device) -> None:
        self.version: str = card["version"]
        self.classes: list[str] = card["classes"]
        self.input_size: int = card["input_size"]
        self.card = card
        self.device = device
        self._layers = layers

    def __call__(self, images: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Classify RGB images of `input_size` squared times 3 bytes each.

        Returns probabilities (len(images), classes) and energies (len(images),), in the order given.
        An energy is minus the log-sum-exp of the calibrated logits: the higher, the less it knows the image.
        """
        shape = (len(images), self.input_size, self.input_size, CHANNELS)
        batch = torch.frombuffer(bytearray().join(images), dtype=torch.uint8).view(shape)
        with torch.inference_mode():
            x = batch.to(self.device)
            for layer in self._layers:
                x = layer.run(x)
            logits = x.float()
            # Together, because each way from a GPU has its price: (batch, classes + 1).
            answers = torch.cat((logits.softmax(1), -logits.logsumexp(1, keepdim=True)), 1).cpu().numpy()
        return answers[:, :-1], answers[:, -1]

    def is_unfamiliar(self, energy: float) -> bool | None:
        """Whether an image of this energy is likely none of the classes; None: the card does not say."""
        verdict = self.card.get("unfamiliar")
        return None if verdict is None else energy > verdict["energy_threshold"]

    def warm_up(self, max_batch_size: int) -> None:
        """Run batches of a few sizes, so that what the device prepares at first is prepared."""
        for size in sorted({1, 2, 8, max_batch_size}):
            self([bytes(self.input_size**2 * CHANNELS)] * size)

    @property
    def device_name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        unit = "bfloat16" if has_fast_bfloat16(self.device) else "float32"
        return f"CPU ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {unit})"


def load(folder: Path, device: torch.device) -> Classifier:
    """Load one version onto `device` and try it. Raises ArtifactError."""
    found = artifact.read(folder)
    precision = torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    tensors = {name: tensor.to(device) for name, tensor in found.tensors.items()}
    layers = Builder(tensors, precision).build(found.layers)
    size, classes = found.card["input_size"], len(found.card["classes"])
    given = check_cost(layers, (size, size, CHANNELS))
    if given != (classes,):
        raise ArtifactError(f"it gives values of the shape {given} for an image, not ({classes},)")
    classifier = Classifier(layers, found.card, device)
    _try(classifier)
    return classifier


def choose_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 runs on matrix or vector units here: a GPU's, AMX, or AVX-512's."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(unit, False) for unit in ("amx_bf16", "avx512_bf16"))


def _try(classifier: Classifier) -> None:
    """Classify the darkest image, the brightest, and noise. Raises ArtifactError."""
    size = classifier.input_size**2 * CHANNELS
    noise = np.random.default_rng(TRIAL_SEED).integers(0, 256, size, dtype=np.uint8)
    probabilities, energies = classifier([bytes(size), b"\xff" * size, noise.tobytes()])
    if not (np.isfinite(probabilities).all() and np.isfinite(energies).all()):
        raise ArtifactError("its answers are not finite numbers")
