"""The checks of an ONNX file before it runs.

Only the process of a trial imports this module, because the package `onnx` takes 60 MB of memory.
"""

from collections.abc import Iterator, Sequence

import onnx
from google.protobuf.message import DecodeError, Message

from inference.card import INPUT_SIZE
from inference.errors import ArtifactError

STANDARD = ("", "ai.onnx")
# The time that these take can depend on the image, so a trial says nothing about other images.
CONTROL_FLOW = ("If", "Loop", "Scan")
TYPES: dict[int, str] = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}


def check(content: bytes, classes: int) -> None:
    """Check the inputs, outputs, tensors and operators of a model. Raises ArtifactError."""
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ArtifactError(f"it is not an ONNX file: {error}") from error
    images = f"images uint8 (batch, {INPUT_SIZE}, {INPUT_SIZE}, 3)"
    _check_values("inputs", model.graph.input, images)
    probabilities = f"probabilities float32 (batch, {classes})"
    _check_values("outputs", model.graph.output, probabilities, "energy float32 (batch)")
    for part in _walk(model):
        if isinstance(part, onnx.TensorProto) and part.data_location == onnx.TensorProto.EXTERNAL:
            raise ArtifactError(
                f"the tensor {part.name:.100} is in another file; save the model with its tensors in one file"
            )
        if isinstance(part, onnx.NodeProto):
            if part.domain not in STANDARD:
                raise ArtifactError(
                    f"the operator {part.op_type:.100} is of the domain {part.domain[:100]!r}; "
                    "only operators of the ONNX standard are allowed"
                )
            if part.op_type in CONTROL_FLOW:
                raise ArtifactError(f"the operator {part.op_type} is control flow, which is not allowed")


def _check_values(what: str, values: Sequence[onnx.ValueInfoProto], *expected: str) -> None:
    """Raises ArtifactError if inputs or outputs are not those expected, in any order."""
    found = [_describe(value) for value in values]
    if sorted(found) != sorted(expected):
        named = ", ".join(found) or "none"
        raise ArtifactError(f"its {what} are {named:.200}; they must be {', '.join(expected)}")


def _describe(value: onnx.ValueInfoProto) -> str:
    """Name, type and shape, in which `batch` stands for any size."""
    tensor = value.type.tensor_type
    kind = TYPES.get(tensor.elem_type, f"type {tensor.elem_type}")
    sides = [str(dim.dim_value) if dim.HasField("dim_value") else "batch" for dim in tensor.shape.dim]
    return f"{value.name} {kind} ({', '.join(sides)})"


def _walk(message: Message) -> Iterator[Message]:
    """Every message inside a message, at any depth: subgraphs and functions also hold nodes and tensors."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            yield part
            yield from _walk(part)
