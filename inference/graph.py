"""The checks of an ONNX file before it runs.

Only the process of a trial imports this module, because the package `onnx` takes 60 MB of memory.
"""

from collections.abc import Iterator, Mapping, Sequence

import onnx
from google.protobuf.message import DecodeError, Message

from inference.card import INPUT_SIZE
from inference.errors import ArtifactError

IMAGES, PROBABILITIES, ENERGY = "images", "probabilities", "energy"
STANDARD = ("", "ai.onnx")
# The time that these take can depend on the image, so a trial says nothing about other images.
CONTROL_FLOW = ("If", "Loop", "Scan")
Value = tuple[str, tuple[int | None, ...]]
"""A type and a shape. None stands for the batch, of any size."""
TYPES: dict[int, str] = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}


def check(content: bytes, classes: int) -> None:
    """Check the inputs, outputs and operators of a model. Raises ArtifactError."""
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ArtifactError(f"it is not an ONNX file: {error}") from error
    size = INPUT_SIZE
    _check_values("inputs", model.graph.input, {IMAGES: ("uint8", (None, size, size, 3))})
    answers = {PROBABILITIES: ("float32", (None, classes)), ENERGY: ("float32", (None,))}
    _check_values("outputs", model.graph.output, answers)
    for part in _walk(model):
        if isinstance(part, onnx.TensorProto) and part.data_location == onnx.TensorProto.EXTERNAL:
            raise ArtifactError(f"the tensor {part.name:.100} is in another file; put it into this one")
        if isinstance(part, onnx.NodeProto):
            if part.domain not in STANDARD:
                raise ArtifactError(
                    f"the operator {part.op_type:.100} is of the domain {part.domain[:100]!r}; "
                    "only operators of the ONNX standard are allowed"
                )
            if part.op_type in CONTROL_FLOW:
                raise ArtifactError(f"the operator {part.op_type} is control flow, which is not allowed")


def _check_values(
    what: str,
    found: Sequence[onnx.ValueInfoProto],
    expected: Mapping[str, Value],
) -> None:
    """Raises ArtifactError if inputs or outputs are not those expected."""
    described = {value.name: _describe(value) for value in found}
    if described != expected:
        raise ArtifactError(f"its {what} are {_say(described):.200}; they must be {_say(expected)}")


def _describe(value: onnx.ValueInfoProto) -> Value:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return TYPES.get(tensor.elem_type, f"type {tensor.elem_type}"), shape


def _say(values: Mapping[str, Value]) -> str:
    parts = [
        f"{name} {kind} ({', '.join('batch' if side is None else str(side) for side in shape)})"
        for name, (kind, shape) in values.items()
    ]
    return ", ".join(parts) or "none"


def _walk(message: Message) -> Iterator[Message]:
    """Every message inside a message, at any depth: subgraphs and functions also hold nodes and tensors."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            yield part
            yield from _walk(part)
