"""A trial refuses a malicious or broken model with a reason, and does not end the worker."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from inference.artifact import Check, parse_check
from inference.errors import ArtifactError
from inference.trial import try_model
from tests.inference.artifacts import (
    CLASSES,
    ENERGY,
    IMAGES,
    PROBABILITIES,
    external,
    make_check,
    make_model,
    make_nodes,
    make_tensors,
    make_weights,
)

REFERENCE = parse_check(make_check(), len(CLASSES))


def refuse(model: bytes, words: str, **limits: int) -> None:
    with pytest.raises(ArtifactError, match=words) as refusal:
        try_model(model, "float32", REFERENCE, 8, **limits)
    assert len(str(refusal.value)) <= 600
    assert str(refusal.value).isprintable()  # one line


def value(name: str, kind: int, *shape: int | str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def with_node(op: str, /, domain: str = "", **attributes: Any) -> list[NodeProto]:
    """The model's nodes and one more, whose output is unused."""
    return [*make_nodes(), helper.make_node(op, ["logits"], ["unused"], domain=domain, **attributes)]


def endless() -> list[NodeProto]:
    """The model after a loop that never ends."""
    condition = helper.make_node("Identity", ["go"], ["go_on"])
    body = helper.make_graph(
        [condition],
        "body",
        [value("turn", TensorProto.INT64), value("go", TensorProto.BOOL)],
        [value("go_on", TensorProto.BOOL)],
    )
    return [helper.make_node("Loop", ["", "true"], [], body=body), *make_nodes()]


def constant(name: str, *numbers: int) -> TensorProto:
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def test_a_working_model_passes_at_any_batch_size() -> None:
    try_model(make_model(), "float32", REFERENCE, 64)
    try_model(make_model(), "float32", REFERENCE, 1)


SCALAR_ENERGY = helper.make_tensor_value_info("energy", TensorProto.FLOAT, ["batch", 1])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (b"", "its inputs are none"),
        (b"not ONNX at all", "not an ONNX file"),
        (make_model()[:-40], "not an ONNX file"),
        (make_model(inputs=[value("x", TensorProto.UINT8, "batch", 32, 32, 3)]), r"inputs are x uint8"),
        (make_model(inputs=[value("images", TensorProto.FLOAT, "batch", 32, 32, 3)]), "images float32"),
        (make_model(inputs=[value("images", TensorProto.UINT8, 1, 32, 32, 3)]), r"\(1, 32, 32, 3\)"),
        (make_model(inputs=[value("images", TensorProto.UINT8, "batch", 3, 32, 32)]), r"\(batch, 3, 32"),
        (make_model(inputs=[IMAGES, value("more", TensorProto.FLOAT, 1)]), "more float32"),
        (make_model(outputs=[PROBABILITIES]), "outputs are probabilities.*must be.*energy"),
        (make_model(outputs=[PROBABILITIES, SCALAR_ENERGY]), r"energy float32 \(batch, 1\)"),
        (make_model(outputs=[value("probabilities", 1, "batch", 2), ENERGY]), r"\(batch, 2\)"),
        (external(make_model()), "weights is in another file"),
        (make_model(with_node("Steal", "evil"), domains=["evil"]), "domain 'evil'"),
        (make_model(with_node("Tokenizer", "com.microsoft"), domains=["com.microsoft"]), "com.microsoft"),
        (make_model(endless()), "Loop is control flow"),
        (make_model(with_node("NoSuchOperator")), "ONNX Runtime cannot load it"),
        (make_model(make_nodes()[1:]), "ONNX Runtime cannot load it"),
        (make_model(tensors=make_tensors(np.full((3, 3), np.nan, np.float32))), "not finite"),
        (make_model(tensors=make_tensors(np.zeros((7, 3), np.float32))), "cannot load it|does not run"),
        (make_model(tensors=make_tensors(make_weights(1))), "differ by up to"),
    ],
    ids=[
        "empty", "text", "cut", "name", "floats", "fixed batch", "channels first", "two inputs", "no energy",
        "energy shape", "classes", "external data", "custom operator", "contributed operator", "endless loop",
        "unknown operator", "missing value", "no numbers", "shapes", "other answers",
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_served_is_refused(model: bytes, words: str) -> None:
    refuse(model, words)


def test_answers_that_do_not_add_up_to_one_are_refused() -> None:
    nodes = make_nodes()
    softmax = next(node for node in nodes if node.op_type == "Softmax")
    softmax.op_type = "Sigmoid"
    refuse(make_model(nodes), "do not add up to one")


def test_a_model_that_takes_all_memory_is_refused() -> None:
    nodes = [*make_nodes()[:-1], helper.make_node("Expand", ["evidence", "huge"], ["large"])]
    nodes += [helper.make_node("ReduceMean", ["large", "all"], ["energy"], keepdims=0)]
    tensors = [*make_tensors(), constant("huge", 2**20, 2**14, 1), constant("all", 0, 1)]
    refuse(make_model(nodes, tensors), "memory|alloc")


def test_a_model_that_takes_too_long_is_refused() -> None:
    random: Sequence[Any] = ["big", "RandomNormal"]
    nodes = [helper.make_node(random[1], [], [random[0]], shape=[3000, 3000], dtype=TensorProto.FLOAT)]
    for number in range(60):
        before = "big" if number == 0 else f"product{number - 1}"
        nodes.append(helper.make_node("MatMul", [before, "big"], [f"product{number}"]))
    nodes += [
        helper.make_node("ReduceMean", ["product59"], ["mean"], keepdims=0),
        *make_nodes()[:-1],
        helper.make_node("Sub", ["mean", "evidence"], ["energy"]),
    ]
    refuse(make_model(nodes), "more than 2 seconds of CPU time", seconds=2)


def test_int8_may_differ_more_than_float32_within_a_limit() -> None:
    near = make_model(tensors=make_tensors(make_weights() * np.float32(1.3)))
    with pytest.raises(ArtifactError, match="differ by up to"):
        try_model(near, "float32", REFERENCE, 8)
    try_model(near, "int8", REFERENCE, 8)
    with pytest.raises(ArtifactError, match=r"differ by .* on average"):
        try_model(make_model(tensors=make_tensors(-make_weights())), "int8", REFERENCE, 8)


def test_a_check_with_another_number_of_classes_is_refused() -> None:
    two = Check(REFERENCE.images, REFERENCE.probabilities[:, :2], REFERENCE.energy)
    with pytest.raises(ArtifactError, match=r"must be probabilities float32 \(batch, 2\)"):
        try_model(make_model(), "float32", two, 8)
