"""From a trained network to a published artifact, `models/<version>/`.

The artifact is a folder of two files. `model.safetensors` holds the weights and, in its metadata
under "layers", the list of layers that uses them: uint8 (batch, 32, 32, 3) in, calibrated
probabilities (batch, classes) out. `card.json` says what the model is and how good.
`docs/model-artifact.md` is the contract.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.model import Net

FORMAT = "layers/1"
MODEL_FILE = "model.safetensors"
CARD_FILE = "card.json"


class Normalise(nn.Module):
    """uint8 (batch, 32, 32, 3) to normalised float (batch, 3, 32, 32)."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).float() * self.scale + self.shift


def fold(net: Net, mean: Tensor, std: Tensor, temperature: float) -> nn.Sequential:
    """The network as served: batch norms folded into the convolutions, logits divided by
    `temperature`, softmax at the end.

    A batch norm after a max pool folds too, because its scale is positive.
    """
    layers: list[nn.Module] = [Normalise(mean, std), _copy_conv(net.whiten), nn.GELU()]
    for group in net.groups:
        layers += [_fold_norm(group.conv1, group.norm1), nn.MaxPool2d(2), nn.GELU()]  # pyright: ignore
        layers += [_fold_norm(group.conv2, group.norm2), nn.GELU()]  # pyright: ignore
    head = nn.Linear(net.head.in_features, net.head.out_features, bias=False)
    head.weight.data = net.head.weight.data / (net.head.in_features * temperature)
    layers += [nn.MaxPool2d(3), nn.Flatten(), head, nn.Softmax(dim=1)]
    model = nn.Sequential(*layers).eval().to(net.head.weight.device)
    return model.to(memory_format=torch.channels_last)  # pyright: ignore


def write_model(model: nn.Sequential, path: Path) -> None:
    """Write the layers and weights of a folded network as one safetensors file."""
    layers: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for index, layer in enumerate(model):
        layers.append(_describe(layer))
        for name, tensor in layer.state_dict().items():
            tensors[f"{index}.{name}"] = tensor.cpu().contiguous()
    save_file(tensors, path, metadata={"format": FORMAT, "layers": json.dumps(layers)})


def publish(model: nn.Sequential, card: dict[str, Any], models: Path) -> Path:
    """Write the artifact under `models` in one rename; returns its folder.

    The version is the day and the first eight digits of the model file's SHA-256.
    """
    partial = models / f".partial-{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        write_model(model, partial / MODEL_FILE)
        (partial / MODEL_FILE).chmod(0o644)  # the worker may run as another user
        sha256 = hashlib.sha256((partial / MODEL_FILE).read_bytes()).hexdigest()
        version = f"{card['created'][:10]}-{sha256[:8]}"
        card = {"version": version, "format": FORMAT, "sha256": sha256, **card}
        (partial / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n")
        return partial.rename(models / version)
    except BaseException:
        shutil.rmtree(partial)
        raise


def activate(artifact: Path) -> None:
    """Make `artifact` the version that workers load when they start."""
    pointer = artifact.parent / "active"
    partial = pointer.with_suffix(".partial")
    partial.write_text(artifact.name + "\n")
    partial.replace(pointer)


def _describe(layer: nn.Module) -> dict[str, Any]:
    match layer:
        case Normalise():
            return {"op": "normalise"}
        case nn.Conv2d():
            return {"op": "conv2d", "padding": _same(layer)}
        case nn.MaxPool2d():
            return {"op": "max_pool2d", "size": layer.kernel_size}
        case nn.GELU():
            return {"op": "gelu"}
        case nn.Flatten():
            return {"op": "flatten"}
        case nn.Linear():
            return {"op": "linear"}
        case nn.Softmax():
            return {"op": "softmax"}
        case _:
            raise TypeError(f"no layer of the artifact format stands for {layer}")


def _same(conv: nn.Conv2d) -> int:
    return conv.kernel_size[0] // 2 if conv.padding == "same" else int(conv.padding[0])


def _copy_conv(conv: nn.Conv2d) -> nn.Conv2d:
    copy = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size[0])
    copy.load_state_dict(conv.state_dict())
    return copy


def _fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.data / (norm.running_var + norm.eps).sqrt()  # (channels,)
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding="same")
    folded.weight.data = conv.weight.data * scale.view(-1, 1, 1, 1)
    assert folded.bias is not None
    folded.bias.data = norm.bias.data - norm.running_mean * scale
    return folded
