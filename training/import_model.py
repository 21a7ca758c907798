"""Publish a torch module of your own: `make import-model MODULE=file.py:function DATA=images`.

The function takes no argument and returns a trained `torch.nn.Module`. The module maps float images (batch,
3, 32, 32), RGB from 0 to 1, to logits (batch, classes), with the data's classes in alphabetical order. This
command calibrates it on training images, exports it to ONNX, quantises it, measures it on the test images
and publishes it.
"""

import argparse
import runpy
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn
from torch.onnx import OnnxExporterError

from training import data, hardware, pictures, publish
from training.data import Dataset
from training.errors import CommandError, ModuleError
from training.model import INPUT_SIZE

SEED = 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make import-model", description=__doc__)
    parser.add_argument("--module", required=True, help="file.py:function that returns the module")
    publish.add_options(parser)
    given = parser.parse_args()
    try:
        dataset = data.load(given.data, given.cache, given.name)
        artifact = import_model(given.module, dataset, given.models, given.activation)
    except CommandError as error:
        print(f"import-model: {error}", file=sys.stderr)
        return 1
    print(f"published {artifact}")
    return 0


def import_model(module: str, dataset: Dataset, models: Path, activation: str = "better") -> Path:
    """Publish a module as a version; returns the artifact's folder. Raises ModuleError."""
    net = load_module(module)
    check_logits(net, len(dataset.classes))
    held_out, _ = publish.hold_out(dataset.train, SEED)
    device = torch.device("cpu")
    served = publish.calibrate(net, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), held_out, device)
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    with publish.draft(models) as folder:
        try:
            card, answers = publish.write_files(served, dataset, held_out, created, folder, SEED)
        except OnnxExporterError as error:
            raise ModuleError(f"{module} cannot be exported to ONNX: {str(error)[:500]}") from error
        card["activation"] = activation
        card["training"] = {
            "recipe": "imported",
            "source": Path(module).name,
            "hardware": hardware.describe(device),
            "versions": {name: version(name) for name in ("torch", "onnx", "numpy")},
        }
        return publish.publish(folder, card, pictures.draw(answers, dataset.classes, []), models)


def load_module(place: str) -> nn.Module:
    """Run `file.py` and call its function. The file may import modules beside it. Raises ModuleError."""
    file, _, function = place.rpartition(":")
    if not Path(file).is_file():
        raise ModuleError(f"{place!r} names no file and function. Give path/to/file.py:function.")
    sys.path.insert(0, str(Path(file).resolve().parent))
    found = runpy.run_path(file)
    if not callable(found.get(function)):
        raise ModuleError(f"{file} has no function {function!r}")
    net = found[function]()
    if not isinstance(net, nn.Module):
        raise ModuleError(f"{place} returns a {type(net).__name__}. It must return a torch.nn.Module.")
    return net.eval()


def check_logits(net: nn.Module, classes: int) -> None:
    """Check that the logits are finite and have the shape (batch, classes). Raises ModuleError."""
    with torch.inference_mode():
        logits = net(torch.zeros(2, 3, INPUT_SIZE, INPUT_SIZE))
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != (2, classes):
        raise ModuleError(
            f"For two images the module returns {shape}. The data has {classes} classes, so it must return a "
            f"tensor of the shape (2, {classes})."
        )
    if not logits.isfinite().all():
        raise ModuleError("For black images the module returns numbers that are not finite.")


if __name__ == "__main__":
    sys.exit(main())
