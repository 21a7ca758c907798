"""The kinds of layer that an artifact may be made of, built from their descriptions.

What a layer gives and costs is worked out, and bounded, before it runs. (torch's device `meta` could tell
the shapes, too; it imports sympy and 900 other modules for that, and takes four seconds.)
"""

import math
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.errors import ArtifactError

CHANNELS = 3
MAX_LAYERS = 256
MAX_KERNEL = 7
MAX_PADDING = 8
MAX_POOL = 32
MAX_VALUES = 2**20
"""Of one image between two layers: a batch of 64 then takes at most 256 MiB."""
MAX_MULTIPLICATIONS = 2**32
"""For one image. A CPU's core does about 2**36 in a second."""

KEYS = {
    "normalise": {"op"},
    "conv2d": {"op", "padding"},
    "max_pool2d": {"op", "size"},
    "gelu": {"op"},
    "flatten": {"op"},
    "linear": {"op"},
    "residual": {"op", "layers"},
    "softmax": {"op"},
}


Shape = tuple[int, ...]
"""Of one image between two layers: (channels, height, width), or (values,)."""


@dataclass(frozen=True)
class Layer:
    """One step of the forward pass."""

    place: str
    """Its path in the list, as in the names of its tensors: 7, or 7.0 in the body of 7."""
    run: Callable[[Tensor], Tensor]
    fit: Callable[[Shape], Shape | None]
    """The shape of what it gives for an input of this shape; None when it does not take such."""
    multiplications: int = 0
    """For each value that it gives."""
    body: Sequence["Layer"] = ()
    """Of a residual layer."""


class Builder:
    """Builds layers from descriptions, each tensor converted to `precision` once: autocast, which
    converts them at each call, made a lone image a third slower."""

    def __init__(self, tensors: dict[str, Tensor], precision: torch.dtype) -> None:
        self.tensors = tensors
        self.precision = precision
        self.used: set[str] = set()
        self.count = 0

    def build(self, descriptions: Sequence[Any]) -> list[Layer]:
        """Every layer but the softmax at the end: raw images to logits. Raises ArtifactError."""
        ops = [
            description.get("op") if isinstance(description, dict) else None for description in descriptions
        ]
        if ops[:1] != ["normalise"] or ops[-1:] != ["softmax"] or len(ops) < 2:
            raise ArtifactError("the first layer must be normalise, the last softmax")
        layers = [self._build(*numbered, depth=0) for numbered in _number(descriptions[:-1])]
        _check_keys(descriptions[-1], str(len(ops) - 1), depth=0)
        if unused := self.tensors.keys() - self.used:
            raise ArtifactError(f"no layer uses the tensor {min(unused):.100}")
        return layers

    def _build(self, place: str, description: Any, *, depth: int) -> Layer:
        self.count += 1
        if self.count >= MAX_LAYERS:
            raise ArtifactError(f"there are more than {MAX_LAYERS} layers")
        match _check_keys(description, place, depth=depth):
            case "normalise":
                if place != "0":
                    raise ArtifactError(f"layer {place} is normalise, which only the first may be")
                return self._normalise(place)
            case "conv2d":
                return self._conv2d(place, _whole(description, "padding", place, range(MAX_PADDING + 1)))
            case "max_pool2d":
                size = _whole(description, "size", place, range(1, MAX_POOL + 1))
                return Layer(place, lambda x: F.max_pool2d(x, size), lambda shape: _pool(shape, size))
            case "gelu":
                return Layer(place, F.gelu, lambda shape: shape)
            case "flatten":
                return Layer(place, lambda x: x.flatten(1), lambda shape: (math.prod(shape),))
            case "linear":
                return self._linear(place)
            case "residual":
                return self._residual(place, description["layers"])
            case op:
                raise ArtifactError(f"layer {place} is {op}, which only the last may be")

    def _normalise(self, place: str) -> Layer:
        scale, shift = (self._take(f"{place}.{name}", 4) for name in ("scale", "shift"))
        if not scale.shape == shift.shape == (1, CHANNELS, 1, 1):
            raise ArtifactError(f"layer {place} needs scale and shift of the shape (1, {CHANNELS}, 1, 1)")
        precision = self.precision
        return Layer(
            place,
            # (batch, 32, 32, 3) to (batch, 3, 32, 32)
            lambda x: (x.permute(0, 3, 1, 2).float() * scale + shift).to(precision),
            lambda shape: (shape[2], shape[0], shape[1]),
        )

    def _conv2d(self, place: str, padding: int) -> Layer:
        weight, bias = self._take(f"{place}.weight", 4), self._take(f"{place}.bias", 1)
        filters, channels, *kernel = weight.shape
        if max(kernel) > MAX_KERNEL:
            raise ArtifactError(f"layer {place} has a kernel of more than {MAX_KERNEL} x {MAX_KERNEL}")
        if bias.shape != (filters,):
            raise ArtifactError(f"layer {place} has {filters} filters and {len(bias)} biases")
        weight = weight.to(self.precision, memory_format=torch.channels_last)
        bias = bias.to(self.precision)

        def fit(shape: Shape) -> Shape | None:
            if len(shape) != 3 or shape[0] != channels:
                return None
            height, width = (
                side + 2 * padding - size + 1 for side, size in zip(shape[1:], kernel, strict=True)
            )
            return (filters, height, width) if height > 0 and width > 0 else None

        return Layer(
            place,
            lambda x: F.conv2d(x, weight, bias, padding=padding),
            fit,
            multiplications=channels * math.prod(kernel),
        )

    def _linear(self, place: str) -> Layer:
        matrix = self._take(f"{place}.weight", 2).to(self.precision)
        given, taken = matrix.shape
        return Layer(
            place,
            lambda x: F.linear(x, matrix),
            lambda shape: (given,) if shape == (taken,) else None,
            multiplications=taken,
        )

    def _residual(self, place: str, descriptions: Any) -> Layer:
        if not isinstance(descriptions, list) or not descriptions:
            raise ArtifactError(f"layer {place} needs layers: a list of at least one")
        body = [self._build(f"{place}.{inner}", layer, depth=1) for inner, layer in _number(descriptions)]

        def run(x: Tensor) -> Tensor:
            y = x
            for layer in body:
                y = layer.run(y)
            return x + y

        return Layer(place, run, lambda shape: shape, body=body)

    def _take(self, name: str, dimensions: int) -> Tensor:
        self.used.add(name)
        tensor = self.tensors.get(name)
        if tensor is None or tensor.ndim != dimensions or tensor.numel() == 0:
            found = "missing" if tensor is None else f"of the shape {tuple(tensor.shape)}"
            raise ArtifactError(f"the tensor {name} is {found}; it needs {dimensions} dimensions")
        return tensor


def check_cost(layers: Sequence[Layer], shape: Shape) -> Shape:
    """The shape that the layers give for one image of this shape. Raises ArtifactError when they do not
    fit together or cost more than is allowed."""
    spent = 0

    def follow(layers: Sequence[Layer], shape: Shape) -> Shape:
        nonlocal spent
        for layer in layers:
            given = follow(layer.body, shape) if layer.body else layer.fit(shape)
            if given is None:
                raise ArtifactError(f"layer {layer.place} does not take an input of the shape {shape}")
            if layer.body and given != shape:
                raise ArtifactError(f"the body of layer {layer.place} makes {given} of the shape {shape}")
            values = math.prod(given)
            if values > MAX_VALUES:
                raise ArtifactError(f"layer {layer.place} gives {values:,} values, not up to {MAX_VALUES:,}")
            spent += layer.multiplications * values
            if spent > MAX_MULTIPLICATIONS:
                raise ArtifactError(f"one image takes more than {MAX_MULTIPLICATIONS:,} multiplications")
            shape = given
        return shape

    return follow(layers, shape)


def _pool(shape: Shape, size: int) -> Shape | None:
    if len(shape) != 3 or min(shape[1:]) < size:
        return None
    return shape[0], shape[1] // size, shape[2] // size


def _number(descriptions: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(str(number), description) for number, description in enumerate(descriptions)]


def _check_keys(description: Any, place: str, *, depth: int) -> str:
    """The op of a layer that has the keys it needs and no others. Raises ArtifactError."""
    op: Any = description.get("op") if isinstance(description, dict) else None
    if not isinstance(op, str) or op not in KEYS or (depth and op == "residual"):
        raise ArtifactError(f"layer {place} is unknown: {reprlib.repr(description)}")
    if description.keys() != KEYS[op]:
        raise ArtifactError(f"layer {place}, {op}, must have the keys {', '.join(sorted(KEYS[op]))}")
    return op


def _whole(description: dict[str, Any], key: str, place: str, allowed: range) -> int:
    value = description[key]
    if type(value) is not int or value not in allowed:
        raise ArtifactError(
            f"{key} of layer {place} is {reprlib.repr(value)}, not {allowed.start} to {allowed.stop - 1}"
        )
    return value
