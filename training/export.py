"""From a trained network to a published artifact, `models/<version>/`.

The artifact is a folder. `model.safetensors` holds the weights and, in its metadata under "layers",
the list of layers that uses them: uint8 (batch, 32, 32, 3) in, calibrated probabilities (batch, classes)
out. `card.json` says what the model is and how good, and its pictures show it.
`docs/model-artifact.md` is the contract.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training.errors import TeacherError
from training.model import ConvGroup, Net

FORMAT = "layers/2"
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


class Residual(nn.Sequential):
    """What its layers make of the input, added to the input."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return x + super().forward(x)


def fold(net: Net, mean: Tensor, std: Tensor, temperature: float) -> nn.Sequential:
    """The network as served: batch norms folded into the convolutions, logits divided by
    `temperature`, softmax at the end."""
    layers: list[nn.Module] = [Normalise(mean, std), _copy_conv(net.whiten), nn.GELU()]
    for group in net.groups:
        layers += _fold_group(group)  # pyright: ignore[reportArgumentType]
    head = nn.Linear(net.head.in_features, net.head.out_features, bias=False)
    head.weight.data = net.head.weight.data / (net.head.in_features * temperature)
    layers += [net.pool, nn.Flatten(), head, nn.Softmax(dim=1)]
    model = nn.Sequential(*layers).eval().to(net.head.weight.device)
    return model.to(memory_format=torch.channels_last)  # pyright: ignore


def write_model(model: nn.Sequential, path: Path, created: str) -> None:
    """Write the layers and weights of a folded network as one safetensors file.

    `created` makes files of the same weights differ, so that each run publishes a version of its own.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    layers = json.dumps([_describe(layer) for layer in model])
    save_file(tensors, path, metadata={"format": FORMAT, "layers": layers, "created": created})


def read_model(path: Path) -> nn.Sequential:
    """The reverse of `write_model`. Raises TeacherError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise TeacherError(f"{path} has format {metadata.get('format')!r}, not {FORMAT!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        layers = json.loads(metadata["layers"])
        model = nn.Sequential(*(_build(layer, tensors, str(index)) for index, layer in enumerate(layers)))
        model.load_state_dict(tensors)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise TeacherError(f"{path} cannot be read: {error!r}") from error
    return model.eval().to(memory_format=torch.channels_last)  # pyright: ignore


def read_teacher(artifact: Path, classes: Sequence[str], mean: Tensor, std: Tensor) -> nn.Sequential:
    """A published network from normalised images (batch, 3, 32, 32) to calibrated logits (batch, classes).
    Raises TeacherError."""
    model = read_model(artifact / MODEL_FILE)
    try:
        card = json.loads((artifact / CARD_FILE).read_text())
        known = [str(name) for name in card["classes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"{artifact / CARD_FILE} cannot be read: {error!r}") from error
    if known != list(classes):
        raise TeacherError(f"{artifact} knows other classes than the data: {', '.join(known)}")
    theirs, ours = model[0], Normalise(mean, std)
    if not (
        isinstance(theirs, Normalise)
        and torch.allclose(theirs.scale, ours.scale)
        and torch.allclose(theirs.shift, ours.shift)
    ):
        raise TeacherError(f"{artifact} normalises images in another way than the recipes do")
    return model[1:-1]


def publish(
    model: nn.Sequential, card: Mapping[str, Any], pictures: Mapping[str, bytes], models: Path
) -> Path:
    """Write the artifact under `models` in one rename; returns its folder.

    A run that did so before, but was killed before it could say so, is not published again: `created`, when
    its last epoch ended, tells. The version is the day and the first eight digits of the model file's
    SHA-256.
    """
    models.mkdir(parents=True, exist_ok=True)
    if artifact := _find_published(models, card["created"]):
        return artifact
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=models))
    partial.chmod(0o755)  # the workers may run as other users, and so below
    try:
        write_model(model, partial / MODEL_FILE, card["created"])
        sha256 = hashlib.sha256((partial / MODEL_FILE).read_bytes()).hexdigest()
        version = f"{card['created'][:10]}-{sha256[:8]}"
        card = {"version": version, "format": FORMAT, "sha256": sha256, **card}
        (partial / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n")
        for name, png in pictures.items():
            (partial / f"{name}.png").write_bytes(png)
        for file in partial.iterdir():
            file.chmod(0o644)
        return partial.rename(models / version)
    except BaseException:
        shutil.rmtree(partial)
        raise


def _find_published(models: Path, created: str) -> Path | None:
    for file in models.glob(f"{created[:10]}-*/{CARD_FILE}"):
        with suppress(OSError):  # it may be anyone's
            if f'"created": "{created}"' in file.read_text(errors="replace"):
                return file.parent
    return None


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
        case Residual():
            return {"op": "residual", "layers": [_describe(inner) for inner in layer]}
        case nn.Flatten():
            return {"op": "flatten"}
        case nn.Linear():
            return {"op": "linear"}
        case nn.Softmax():
            return {"op": "softmax"}
        case _:
            raise TypeError(f"no layer of the artifact format stands for {layer}")


def _build(description: dict[str, Any], tensors: Mapping[str, Tensor], path: str) -> nn.Module:
    """An empty layer of the form that the tensors under `path` have."""
    match description:
        case {"op": "normalise"}:
            return Normalise(torch.zeros(3), torch.ones(3))
        case {"op": "conv2d", "padding": int(padding)}:
            outputs, inputs, size, _ = tensors[f"{path}.weight"].shape
            return nn.Conv2d(inputs, outputs, size, padding=padding)
        case {"op": "max_pool2d", "size": int(size)}:
            return nn.MaxPool2d(size)
        case {"op": "gelu"}:
            return nn.GELU()
        case {"op": "residual", "layers": list(layers)}:
            return Residual(
                *(_build(inner, tensors, f"{path}.{index}") for index, inner in enumerate(layers))
            )
        case {"op": "flatten"}:
            return nn.Flatten()
        case {"op": "linear"}:
            outputs, inputs = tensors[f"{path}.weight"].shape
            return nn.Linear(inputs, outputs, bias=False)
        case {"op": "softmax"}:
            return nn.Softmax(dim=1)
        case _:
            raise ValueError(f"layer {path} is unknown: {description}")


def _fold_group(group: ConvGroup) -> list[nn.Module]:
    """A batch norm after a max pool folds too, because its scale is positive."""
    first, *rest = (
        _fold_norm(conv, norm)  # pyright: ignore[reportArgumentType]
        for conv, norm in zip(group.convs, group.norms, strict=True)
    )
    layers: list[nn.Module] = [first, nn.MaxPool2d(2), nn.GELU()]
    if len(rest) == 2:
        return [*layers, Residual(rest[0], nn.GELU(), rest[1]), nn.GELU()]
    return [*layers, rest[0], nn.GELU()]


def _same(conv: nn.Conv2d) -> int:
    return conv.kernel_size[0] // 2 if conv.padding == "same" else int(conv.padding[0])


def _copy_conv(conv: nn.Conv2d) -> nn.Conv2d:
    copy = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size[0], padding=conv.padding[0])
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
