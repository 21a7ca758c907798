"""Exports a trained network to ONNX files: float32, and int8 for CPUs.

Both map uint8 `images` (batch, 32, 32, 3) to `probabilities` (batch, classes) and `energy` (batch,).
`docs/model-artifact.md` is the contract.
"""

import copy
import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import onnx
import torch
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.data import Images
from training.model import INPUT_SIZE, Net

IMAGES, PROBABILITIES, ENERGY = "images", "probabilities", "energy"
RANGE_IMAGES, RANGE_BATCH = 600, 50


class Calibrated(nn.Module):
    """A network whose logits are divided by its temperature.

    Maps normalised images (batch, 3, 32, 32) to logits (batch, classes).
    """

    def __init__(self, net: nn.Module, temperature: float) -> None:
        super().__init__()
        self.net = net
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images) / self.temperature


class Served(nn.Module):
    """The model that is exported.

    Maps uint8 images (batch, 32, 32, 3) to probabilities (batch, classes) and energy (batch,).
    """

    def __init__(self, calibrated: Calibrated, mean: Sequence[float], std: Sequence[float]) -> None:
        """`mean` and `std` have one value for each channel, for pixels scaled to the range 0 to 1."""
        super().__init__()
        scale, shift = 1 / (255 * torch.tensor(std)), -torch.tensor(mean) / torch.tensor(std)
        self.calibrated = calibrated
        self.scale = nn.Buffer(scale.view(1, 3, 1, 1))
        self.shift = nn.Buffer(shift.view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.to_logits(images)
        return logits.softmax(1), -logits.logsumexp(1)

    def to_logits(self, images: Tensor) -> Tensor:
        return self.calibrated(images.permute(0, 3, 1, 2).float() * self.scale + self.shift)


def fold(net: Net) -> Net:
    """The same network with each batch norm folded into its convolution.

    A max pool between the two does not prevent this, because the scale of the batch norm is positive.
    """
    net = copy.deepcopy(net).eval()
    for group in net.groups:
        for index, (conv, norm) in enumerate(zip(group.convs, group.norms, strict=True)):  # pyright: ignore
            group.convs[index] = fuse_conv_bn_eval(conv, norm)  # pyright: ignore
            group.norms[index] = nn.Identity()  # pyright: ignore
    return net


def write_onnx(model: Served, path: Path, created: str) -> None:
    """Write `model` as a float32 ONNX file.

    The file contains `created`, so that two runs with the same weights publish two versions.
    """
    example = torch.zeros(2, INPUT_SIZE, INPUT_SIZE, 3, dtype=torch.uint8)
    exported = torch.onnx.export(
        copy.deepcopy(model).cpu().eval(),
        (example,),
        input_names=[IMAGES],
        output_names=[PROBABILITIES, ENERGY],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert exported is not None
    found = exported.model_proto
    graph = found.graph
    for part in (found, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]  # file names of this machine
        part.doc_string = ""
    onnx.helper.set_model_props(found, {"created": created})
    onnx.save_model(found, path)


def quantise(model: Path, quantised: Path, images: Images) -> None:
    """Write the int8 form of a float32 ONNX file, with ranges measured on the first 600 `images`.

    The first convolution and the last matrix product stay in float32: they cost little, and in int8 they
    would lose the most accuracy. Weights have seven bits (`reduce_range`): with eight, sums overflow on CPUs
    with AVX2 but no VNNI. `images` has the shape (count, 32, 32, 3).
    """
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # the quantiser prints
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(model, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            quantised,
            _Batches(images[:RANGE_IMAGES]),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "MaxPool"],
            nodes_to_exclude=_find_ends(prepared),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.Percentile,
        )


def _find_ends(path: Path) -> list[str]:
    """The names of the nodes up to the first convolution and from the last matrix product on."""
    nodes = onnx.load_model(path).graph.node
    first = next((n for n, node in enumerate(nodes) if node.op_type == "Conv"), -1)
    last = max((n for n, node in enumerate(nodes) if node.op_type in ("Gemm", "MatMul")), default=len(nodes))
    return [node.name for n, node in enumerate(nodes) if n <= first or n >= last]


class _Batches(quantization.CalibrationDataReader):
    """The images on which the quantiser measures the ranges, in batches."""

    def __init__(self, images: Images) -> None:
        starts = range(0, len(images), RANGE_BATCH)
        self._batches = iter([{IMAGES: images[start : start + RANGE_BATCH]} for start in starts])

    def get_next(self) -> dict[str, Images] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self._batches, None)
