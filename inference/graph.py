"""The checks of an ONNX file before it runs.

Only the process of a trial imports this module, because the package `onnx` takes 60 MB of memory.
"""

from collections.abc import Iterator, Sequence

import onnx
from google.protobuf.message import DecodeError, Message

from inference.card import INPUT_SIZE
from inference.errors import ArtifactError

STANDARD = ("", "ai.onnx")
# A trial proves nothing if time or memory depends on the pixels, or if the answer is random.
REFUSED = {
    **dict.fromkeys(["If", "Loop", "Scan", "SequenceMap"], "control flow"),
    **dict.fromkeys(["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"], "random"),
    **dict.fromkeys(["RandomUniform", "RandomUniformLike"], "random"),
}
# Operators whose output size depends on the values of their inputs, the first included.
SIZED_BY_ALL = (
    "BlackmanWindow", "ConstantOfShape", "HammingWindow", "HannWindow", "ImageDecoder", "MelWeightMatrix",
    "NonMaxSuppression", "NonZero", "Range", "StringNormalizer", "StringSplit", "Unique",
)  # fmt: skip
# Operators whose output size depends on the values of their inputs after the first.
SIZED_BY_OTHERS = (
    "AffineGrid", "CenterCropPad", "Col2Im", "Compress", "DFT", "Expand", "MaxUnpool", "OneHot", "Pad",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Reshape", "Resize", "STFT", "SequenceAt", "SequenceErase",
    "SequenceInsert", "Slice", "Split", "SplitToSequence", "Squeeze", "Tile", "TopK", "Unsqueeze", "Upsample",
)  # fmt: skip
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
            trains = part.op_type == "Dropout" and len(part.input) > 2
            if kind := "random in training mode" if trains else REFUSED.get(part.op_type):
                raise ArtifactError(f"the operator {part.op_type} is {kind}, which is not allowed")
    _check_sizes(model.graph.node)


def _check_values(what: str, values: Sequence[onnx.ValueInfoProto], *expected: str) -> None:
    """Raises ArtifactError if inputs or outputs differ from the expected ones. Their order is free."""
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


def _check_sizes(nodes: Sequence[onnx.NodeProto]) -> None:
    """Raises ArtifactError if the size of a value depends on the pixels."""
    known, dependent = 0, {"images"}
    while known < len(dependent):  # if the nodes are in order, the second pass finds nothing new
        known = len(dependent)
        for node in nodes:
            if node.op_type not in ("Shape", "Size") and not dependent.isdisjoint(node.input):
                dependent.update(filter(None, node.output))
    for node in nodes:
        sizes = node.input if node.op_type in SIZED_BY_ALL else node.input[1:]
        if node.op_type in SIZED_BY_ALL + SIZED_BY_OTHERS and not dependent.isdisjoint(sizes):
            raise ArtifactError(f"the size of an output of {node.op_type} depends on the image")


def _walk(message: Message) -> Iterator[Message]:
    """Every message inside a message, at any depth: subgraphs and functions also hold nodes and tensors."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            yield part
            yield from _walk(part)
