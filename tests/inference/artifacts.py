"""Small artifacts for tests, complete or with one defect."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

CLASSES = ["cat", "dog", "frog"]
SIDE = 32
IMAGES = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
PROBABILITIES = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(CLASSES)])
ENERGY = helper.make_tensor_value_info("energy", TensorProto.FLOAT, ["batch"])


def make_weights(seed: int = 0) -> NDArray[np.float32]:
    """The weights of the small model's only layer: (3, classes)."""
    return np.random.default_rng(seed).normal(size=(3, len(CLASSES))).astype(np.float32)


def make_nodes() -> list[NodeProto]:
    """The logits of an image are its mean colour, divided by 64, times the weights."""
    return [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "sides"], ["colour"], keepdims=0),
        helper.make_node("Div", ["colour", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
        helper.make_node("ReduceLogSumExp", ["logits", "last"], ["evidence"], keepdims=0),
        helper.make_node("Neg", ["evidence"], ["energy"]),
    ]


def make_tensors(weights: NDArray[np.float32] | None = None) -> list[TensorProto]:
    arrays = {
        "sides": np.array([1, 2], np.int64),
        "scale": np.array(64, np.float32),
        "weights": make_weights() if weights is None else weights,
        "last": np.array([1], np.int64),
    }
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def make_model(
    nodes: Sequence[NodeProto] | None = None,
    tensors: Sequence[TensorProto] | None = None,
    inputs: Sequence[ValueInfoProto] = (IMAGES,),
    outputs: Sequence[ValueInfoProto] = (PROBABILITIES, ENERGY),
    domains: Sequence[str] = (),
) -> bytes:
    """An ONNX file, by default of a working model."""
    graph = helper.make_graph(
        list(make_nodes() if nodes is None else nodes),
        "small",
        list(inputs),
        list(outputs),
        list(make_tensors() if tensors is None else tensors),
    )
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


OTHER = make_model(tensors=make_tensors(make_weights(1)))
"""A working model with other weights than those of `make_model()`."""


def make_check(model: bytes | None = None, **changed: NDArray[Any]) -> bytes:
    """A `check.npz`: reference images, with the answers of the model. `changed` replaces arrays."""
    images = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
    session = onnxruntime.InferenceSession(model or make_model(), providers=["CPUExecutionProvider"])
    probabilities, energy = session.run(None, {"images": images})
    arrays: dict[str, Any] = {"images": images, "probabilities": probabilities, "energy": energy} | changed
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def publish(
    models: Path,
    version: str = "v1",
    /,
    model: bytes | None = None,
    int8: bytes | None = None,
    check: bytes | None = None,
    **card: Any,
) -> Path:
    """Write a version's folder. `card` holds changes to its card; None removes a key."""
    folder = models / version
    folder.mkdir(parents=True)
    contents = {"model.onnx": make_model() if model is None else model}
    if int8 is not None:
        contents["model.int8.onnx"] = int8
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "check.npz").write_bytes(make_check() if check is None else check)
    digests = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in contents.items()}
    whole = {
        "version": version,
        "format": "onnx/1",
        "files": digests,
        "classes": CLASSES,
        "input_size": SIDE,
        "accuracy": 0.9,
        "data": {"test_sha256": "same"},
    }
    whole = {key: value for key, value in (whole | card).items() if value is not None}
    (folder / "card.json").write_text(json.dumps(whole))
    return folder


def external(model: bytes) -> bytes:
    """The same model, which refers to another file for its weights."""
    found = onnx.load_model_from_string(model)
    (weights,) = [tensor for tensor in found.graph.initializer if tensor.name == "weights"]
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/passwd")
    weights.ClearField("raw_data")
    return found.SerializeToString()
