"""The files of a model artifact, read and checked: a card, a list of layers, tensors.

Whoever can write into the folder of models can write anything there, so nothing is believed before it
is checked, no link is followed, and no file decides how much memory it gets. `docs/model-artifact.md`
is the contract.
"""

import errno
import hashlib
import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from inference.errors import ArtifactError

FORMAT = "layers/2"
CARD_FILE, MODEL_FILE = "card.json", "model.safetensors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ACTIVATIONS = ("better", "always", "never")
INPUT_SIZE = 32  # what the table `predictions` holds

MAX_CARD_BYTES = 16 * 2**20  # a confusion matrix of MAX_CLASSES has 10 MB
MAX_MODEL_BYTES = 256 * 2**20
MAX_HEADER_BYTES = 2**20
MAX_CLASSES = 1000
MAX_CLASS_CHARACTERS = 100
PASSING = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of the system, not of the file: a later try may succeed."""


@dataclass(frozen=True)
class Artifact:
    """What the two files say; the layers are not built yet, and so not known to fit together."""

    card: dict[str, Any]
    layers: Sequence[Any]
    tensors: dict[str, Tensor]
    """Finite float32, on the CPU."""


def list_versions(models: Path) -> list[str]:
    """The names in `models` that may be versions: folders, and links, which will be refused."""
    with os.scandir(models) as entries:
        return sorted(
            entry.name
            for entry in entries
            if NAME.fullmatch(entry.name) and (entry.is_symlink() or entry.is_dir())
        )


def last_change(folder: Path) -> float:
    """When the version or one of its files was written last, as a time of the wall clock."""
    times = [0.0]
    for path in (folder, folder / CARD_FILE, folder / MODEL_FILE):
        try:
            times.append(path.lstat().st_mtime)
        except OSError:
            continue
    return max(times)


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a version, checked. Raises ArtifactError."""
    return _check_card(_parse(_read(folder, CARD_FILE, MAX_CARD_BYTES), CARD_FILE), folder.name)


def read(folder: Path) -> Artifact:
    """Read and check both files. Raises ArtifactError."""
    card = read_card(folder)
    content = _read(folder, MODEL_FILE, MAX_MODEL_BYTES)
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise ArtifactError(f"{MODEL_FILE} is not the file that its card describes (SHA-256 differs)")
    layers = _read_layers(content)
    try:
        tensors = safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ArtifactError(f"{MODEL_FILE} does not hold tensors: {error}") from error
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ArtifactError(f"the tensor {name:.100} is {tensor.dtype}, not torch.float32")
        if not tensor.isfinite().all():
            raise ArtifactError(f"the tensor {name:.100} holds values that are not finite")
    return Artifact(card, layers, tensors)


def _read(folder: Path, name: str, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises ArtifactError, or OSError when the
    file is not to blame."""
    directory = _open(folder, os.O_DIRECTORY, "the version")
    try:
        # A pipe would keep the reader waiting for its other end, if it were let.
        descriptor = _open(name, os.O_NONBLOCK, name, directory)
    finally:
        os.close(directory)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ArtifactError(f"{name} is not a file")
        if not 0 < found.st_size <= limit:
            raise ArtifactError(f"{name} holds {found.st_size:,} bytes, not 1 to {limit:,}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)  # what is written meanwhile makes another SHA-256
    finally:
        os.close(descriptor)


def _open(path: Path | str, flags: int, what: str, directory: int | None = None) -> int:
    """A descriptor for reading, of anything but a link."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=directory)
    except OSError as error:
        if error.errno in PASSING:
            raise
        is_link = error.errno in (errno.ELOOP, errno.ENOTDIR)
        reason = "is a link, which is not followed" if is_link else f"cannot be read: {error.strerror}"
        raise ArtifactError(f"{what} {reason}") from error


def _parse(content: bytes, what: str) -> Any:
    """JSON as the standard has it, without NaN and the infinities. Raises ArtifactError."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(content.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what} is not JSON: {error}") from error


def _check_card(card: Any, version: str) -> dict[str, Any]:
    """The card, if what the service needs of it is there and of the right kind. Raises ArtifactError."""
    if not isinstance(card, dict):
        raise ArtifactError("the card is not a JSON object")
    classes: Any = card.get("classes")
    checks = {
        "version": (card.get("version") == version, f"must be {version!r}, as its folder"),
        "format": (card.get("format") == FORMAT, f"must be {FORMAT!r}"),
        "sha256": (isinstance(card.get("sha256"), str), "must be the model file's SHA-256"),
        "input_size": (card.get("input_size") == INPUT_SIZE, f"must be {INPUT_SIZE}"),
        "classes": (_are_classes(classes), f"must be 1 to {MAX_CLASSES} different short names"),
        "activation": (card.get("activation", "better") in ACTIVATIONS, "must be better, always or never"),
        "accuracy": (_is_share(card.get("accuracy", 0.0)), "must be a number from 0 to 1"),
        "unfamiliar": (_is_verdict(card.get("unfamiliar")), "must hold a number, energy_threshold"),
        "data": (isinstance(card.get("data", {}), dict), "must be an object"),
    }
    for name, (is_right, rule) in checks.items():
        if not is_right:
            raise ArtifactError(f"{name} of the card is {reprlib.repr(card.get(name))}; it {rule}")
    return card


def _are_classes(names: Any) -> bool:
    """Whether these are names that can be stored and shown."""
    return (
        isinstance(names, list)
        and 1 <= len(names) <= MAX_CLASSES
        and all(isinstance(name, str) and _is_name(name) for name in names)
        and len(set(names)) == len(names)
    )


def _is_name(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and len(text) <= MAX_CLASS_CHARACTERS


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e30 and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return _is_finite(value) and 0 <= value <= 1


def _is_verdict(value: Any) -> bool:
    """Whether this says when an image is unfamiliar, or is missing, as in cards that do not."""
    return value is None or (isinstance(value, dict) and _is_finite(value.get("energy_threshold")))


def _read_layers(content: bytes) -> list[Any]:
    """The list of layers in a safetensors file's metadata. Raises ArtifactError."""
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise ArtifactError(f"{MODEL_FILE} has a header of {length:,} bytes, not 2 to {MAX_HEADER_BYTES:,}")
    header = _parse(content[8 : 8 + length], f"the header of {MODEL_FILE}")
    metadata: Any = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        found = metadata.get("format") if isinstance(metadata, dict) else None
        raise ArtifactError(f"{MODEL_FILE} has the format {reprlib.repr(found)}, not {FORMAT!r}")
    layers = _parse(
        str(metadata.get("layers")).encode(errors="replace"), f"the list of layers of {MODEL_FILE}"
    )
    if not isinstance(layers, list):
        raise ArtifactError(f"the list of layers of {MODEL_FILE} is not a list")
    return layers
