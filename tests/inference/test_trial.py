"""A trial refuses a malicious or broken model with a reason, and does not end the worker."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from inference.artifact import Check, parse_check
from inference.engine import list_batch_sizes
from inference.errors import ArtifactError
from inference.trial import MAX_REASON, try_model
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
    assert len(str(refusal.value)) <= MAX_REASON
    assert str(refusal.value).isprintable()  # one line


def value(name: str, kind: int, *shape: int | str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def with_node(op: str, /, domain: str = "", **attributes: Any) -> list[NodeProto]:
    """The model's nodes and one more, whose output is unused."""
    return [*make_nodes(), helper.make_node(op, ["logits"], ["unused"], domain=domain, **attributes)]


def endless() -> list[NodeProto]:
    """A loop that never ends, then the model's nodes."""
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


def future() -> bytes:
    model = onnx.load_model_from_string(make_model())
    model.ir_version = 99
    return model.SerializeToString()


def mapped() -> list[NodeProto]:
    """The model's nodes, then a graph that runs for each tensor of a sequence."""
    copy = helper.make_node("Identity", ["one"], ["same"])
    body = helper.make_graph(
        [copy], "body", [value("one", TensorProto.FLOAT)], [value("same", TensorProto.FLOAT)]
    )
    rows = helper.make_node("SplitToSequence", ["logits"], ["rows"])
    return [*make_nodes(), rows, helper.make_node("SequenceMap", ["rows"], ["unused"], body=body)]


def with_brightest(*nodes: NodeProto) -> bytes:
    """The model and more nodes, whose output is unused. `brightest` is the value of the brightest pixel."""
    first = [
        helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["numbers"], ["maximum"]),
        helper.make_node("Reshape", ["maximum", "last"], ["brightest"]),
    ]
    return make_model([*make_nodes(), *first, *nodes])


def with_pairs(*nodes: NodeProto, **constants: int) -> bytes:
    """The model, but `nodes` compute its energy. They may use `sound` (the correct energy), `size` (the
    number of images in the batch) and `is_pair` (whether there are two images).
    """
    given = [constant(name, number) for name, number in (constants | {"two": 2}).items()]
    size = helper.make_node("Shape", ["images"], ["size"], end=1)
    pair = helper.make_node("Equal", ["size", "two"], ["is_pair"])
    sound = helper.make_node("Neg", ["evidence"], ["sound"])
    return make_model([*make_nodes()[:-1], sound, size, pair, *nodes], [*make_tensors(), *given])


def mixed() -> list[NodeProto]:
    """The model, but it subtracts the mean over the batch from the logits of each class."""
    nodes = make_nodes()
    nodes[3].output[0] = "own"
    mean = helper.make_node("ReduceMean", ["own", "first"], ["common"])
    return [*nodes[:4], mean, helper.make_node("Sub", ["own", "common"], ["logits"]), *nodes[4:]]


def test_a_working_model_passes_with_a_large_and_a_small_maximum_batch_size() -> None:
    try_model(make_model(), "float32", REFERENCE, 64)
    try_model(make_model(), "float32", REFERENCE, 1)


ENERGY_COLUMN = helper.make_tensor_value_info("energy", TensorProto.FLOAT, ["batch", 1])


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
        (make_model(outputs=[PROBABILITIES, ENERGY_COLUMN]), r"energy float32 \(batch, 1\)"),
        (
            make_model(outputs=[value("probabilities", TensorProto.FLOAT, "batch", 2), ENERGY]),
            r"\(batch, 2\)",
        ),
        (external(make_model()), "weights is in another file"),
        (make_model(with_node("Steal", "evil"), domains=["evil"]), "domain 'evil'"),
        (make_model(with_node("Tokenizer", "com.microsoft"), domains=["com.microsoft"]), "com.microsoft"),
        (make_model(endless()), "Loop is control flow"),
        (make_model(with_node("NoSuchOperator")), "ONNX Runtime cannot load it"),
        (make_model(make_nodes()[1:]), "ONNX Runtime cannot load it"),
        (make_model(tensors=make_tensors(np.full((3, 3), np.nan, np.float32))), "not finite"),
        (make_model(tensors=make_tensors(np.zeros((7, 3), np.float32))), "cannot load it|does not run"),
        (make_model(tensors=make_tensors(make_weights(1))), "differ by up to"),
        (future(), "cannot load it: .* FAIL : Unsupported model IR version: 99"),
        (make_model(mapped()), "SequenceMap is control flow"),
        (make_model(with_node("RandomUniformLike")), "RandomUniformLike is random"),
        (
            make_model([*make_nodes(), helper.make_node("Dropout", ["logits", "", "on"], ["unused"])]),
            "Dropout is random",
        ),
        (make_model(with_node("StringNormalizer")), "output of StringNormalizer depends on the image"),
        (make_model(with_node("NonZero")), "size of an output of NonZero depends on the image"),
        (
            with_brightest(helper.make_node("ConstantOfShape", ["brightest"], ["unused"])),
            "size of an output of ConstantOfShape depends on the image",
        ),
        (
            with_brightest(helper.make_node("ReduceSum", ["logits", "brightest"], ["unused"])),
            "size of an output of ReduceSum depends on the image",
        ),
        (
            with_pairs(
                helper.make_node("Where", ["is_pair", "seven", "size"], ["shape"]),
                helper.make_node("Reshape", ["sound", "shape"], ["energy"]),
                seven=7,
            ),
            "does not run for a batch of 2: .*cannot be reshaped",
        ),
        (
            with_pairs(
                helper.make_node("Where", ["is_pair", "one", "size"], ["end"]),
                helper.make_node("Slice", ["sound", "zero", "end"], ["energy"]),
                zero=0,
                one=1,
            ),
            r"answers for a batch of 2 have the shapes \(\(2, 3\), \(1,\)\)",
        ),
        (
            with_pairs(
                helper.make_node("Cast", ["is_pair"], ["number"], to=TensorProto.FLOAT),
                helper.make_node("Sub", ["scale", "scale"], ["nothing"]),
                helper.make_node("Div", ["number", "nothing"], ["infinite"]),
                helper.make_node("Where", ["is_pair", "infinite", "sound"], ["energy"]),
            ),
            "answers for a batch of 2 are not finite",
        ),
    ],
    ids=[
        "empty", "text", "cut", "name", "floats", "fixed batch", "channels first", "two inputs", "no energy",
        "energy shape", "classes", "external data", "custom operator", "contributed operator", "endless loop",
        "unknown operator", "missing value", "not a number", "shapes", "other answers", "future",
        "sequence map", "random", "dropout of training", "stop words", "non-zero", "sized by the image",
        "summed over an axis from the image", "fails for two", "one energy for two", "infinite for two",
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_served_is_refused(model: bytes, words: str) -> None:
    refuse(model, words)


def test_an_operator_may_select_values_at_fixed_places() -> None:
    """The size of its output depends only on the places."""
    places = numpy_helper.from_array(np.array([True, False, True]), "places")
    nodes = [*make_nodes(), helper.make_node("Compress", ["logits", "places"], ["unused"], axis=1)]
    try_model(make_model(nodes, [*make_tensors(), places]), "float32", REFERENCE, 8)


def test_answers_that_do_not_add_up_to_one_are_refused() -> None:
    nodes = make_nodes()
    softmax = next(node for node in nodes if node.op_type == "Softmax")
    softmax.op_type = "Sigmoid"
    refuse(make_model(nodes), "are below 0 or do not add up to 1")


def test_an_answer_that_depends_on_the_other_images_is_refused() -> None:
    model = make_model(mixed(), [*make_tensors(make_weights() * np.float32(20)), constant("first", 0)])
    with pytest.raises(ArtifactError, match="depends on the other images of the batch"):
        try_model(model, "float32", parse_check(make_check(model), len(CLASSES)), 8)


def test_energies_that_differ_from_those_of_the_artifact_are_refused() -> None:
    other = Check(REFERENCE.images, REFERENCE.probabilities, REFERENCE.energy + 1)
    with pytest.raises(ArtifactError, match="its energies differ"):
        try_model(make_model(), "float32", other, 8)


def test_the_batch_sizes_of_a_trial_end_with_the_maximum() -> None:
    assert [list_batch_sizes(largest) for largest in (1, 4, 64)] == [[1], [1, 2, 4], [1, 2, 8, 64]]


def test_a_model_that_takes_all_memory_is_refused() -> None:
    nodes = [*make_nodes()[:-1], helper.make_node("Expand", ["evidence", "huge"], ["large"])]
    nodes += [helper.make_node("ReduceMean", ["large", "all"], ["energy"], keepdims=0)]
    tensors = [*make_tensors(), constant("huge", 2**20, 2**14, 1), constant("all", 0, 1)]
    refuse(make_model(nodes, tensors), "memory|alloc")


def test_a_model_that_takes_too_long_is_refused() -> None:
    nodes = [helper.make_node("Expand", ["scale", "side"], ["big"])]
    for number in range(60):
        before = "big" if number == 0 else f"product{number - 1}"
        nodes.append(helper.make_node("MatMul", [before, "big"], [f"product{number}"]))
    nodes += [
        helper.make_node("ReduceMean", ["product59"], ["mean"], keepdims=0),
        *make_nodes()[:-1],
        helper.make_node("Sub", ["mean", "evidence"], ["energy"]),
    ]
    tensors = [*make_tensors(), constant("side", 3000, 3000)]
    refuse(make_model(nodes, tensors), "more than 2 seconds of CPU time", seconds=2)


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
