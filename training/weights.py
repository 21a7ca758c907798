"""`weights.safetensors`: the parameters of a published network, for use as a teacher."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from training.errors import TeacherError
from training.export import Calibrated, fold
from training.model import Net

WEIGHTS_FILE = "weights.safetensors"


def write_weights(net: Net, temperature: float, classes: Sequence[str], path: Path) -> None:
    """Write a network's state dict and the arguments that build the network."""
    about = {"net": net.arguments, "temperature": temperature, "classes": list(classes)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    save_file(tensors, path, metadata={"about": json.dumps(about)})


def read_teacher(artifact: Path, classes: Sequence[str]) -> Calibrated:
    """Read the network of a published version. Raises TeacherError."""
    path = artifact / WEIGHTS_FILE
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        net = Net(**about["net"])
        net.load_state_dict(tensors)
        temperature, known = float(about["temperature"]), [str(name) for name in about["classes"]]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TeacherError(f"{path} cannot be read: {error!r}") from error
    if known != list(classes):
        raise TeacherError(f"the data must have exactly the classes of {artifact}: {', '.join(known)}")
    return Calibrated(fold(net), temperature).eval()
