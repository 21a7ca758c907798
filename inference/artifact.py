"""Reads and checks the files of a model artifact. The contract is `docs/model-artifact.md`.

The files may be malicious. So the reader follows no link, loads no pickle, and limits the size of each file.
"""

import errno
import hashlib
import io
import json
import os
import re
import stat
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.card import INPUT_SIZE, Card, File, parse
from inference.errors import ArtifactError

CARD_FILE, FLOAT_FILE, INT8_FILE, CHECK_FILE = "card.json", "model.onnx", "model.int8.onnx", "check.npz"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

MAX_CARD_BYTES = 16 * 2**20  # a confusion matrix of 1,000 classes has 10 MB
MAX_CARD_PARTS = 100_000  # lists and objects: 16 MiB of empty lists would take 0.4 GB of memory
MAX_MODEL_BYTES = 256 * 2**20
MAX_CHECK_BYTES = 4 * 2**20
MAX_CHECK_IMAGES = 256
TRANSIENT = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of the system and not of the file: a later try may succeed."""


@dataclass(frozen=True)
class Check:
    """Reference images, and the answers that the model must give for them."""

    images: NDArray[np.uint8]  # (count, 32, 32, 3)
    probabilities: NDArray[np.float32]  # (count, classes)
    energy: NDArray[np.float32]  # (count,)


@dataclass(frozen=True)
class Artifact:
    """The files of one version, read and checked. Only a trial shows whether the models run."""

    card: Card
    fields: dict[str, Any]
    """The whole card, as the table `models` stores it."""
    float32: bytes
    int8: bytes | ArtifactError | None
    """The int8 model, or why it cannot be read. None: the card names none."""
    check: Check


def list_versions(models: Path) -> list[str]:
    """The names in `models` that may be versions: folders, and links, which are refused later."""
    with os.scandir(models) as entries:
        return sorted(
            entry.name
            for entry in entries
            if NAME.fullmatch(entry.name) and (entry.is_symlink() or entry.is_dir())
        )


def last_change(folder: Path) -> float:
    """The Unix time of the latest change to the folder or to a file that the worker reads."""
    times = [0.0]
    for path in (folder, *(folder / name for name in (CARD_FILE, FLOAT_FILE, INT8_FILE, CHECK_FILE))):
        with suppress(OSError):
            times.append(path.lstat().st_mtime)
    return max(times)


def read_card(folder: Path) -> tuple[Card, dict[str, Any]]:
    """The checked card of a version, and all fields of the file. Raises ArtifactError."""
    fields = _parse_json(_read(folder, CARD_FILE, MAX_CARD_BYTES))
    return parse(fields, folder.name), fields


def read(folder: Path) -> Artifact:
    """Read and check the files to serve. Raises ArtifactError, unless only the int8 model is broken."""
    card, fields = read_card(folder)
    float32 = _read_model(folder, FLOAT_FILE, card.files.float32)
    int8 = None
    if card.files.int8:
        try:
            int8 = _read_model(folder, INT8_FILE, card.files.int8)
        except ArtifactError as error:
            int8 = ArtifactError(*error.args)  # without its traceback, which would keep the files in memory
    check = parse_check(_read(folder, CHECK_FILE, MAX_CHECK_BYTES), len(card.classes))
    return Artifact(card, fields, float32, int8, check)


def _read_model(folder: Path, name: str, described: File) -> bytes:
    content = _read(folder, name, MAX_MODEL_BYTES)
    if hashlib.sha256(content).hexdigest() != described.sha256:
        raise ArtifactError(f"{name} is not the file that its card describes (SHA-256 differs)")
    return content


def parse_check(content: bytes, classes: int) -> Check:
    """The arrays of `check.npz`. Raises ArtifactError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > 4 * MAX_CHECK_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes, more than {4 * MAX_CHECK_BYTES:,}")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: np.asarray(arrays[name]) for name in ("images", "probabilities", "energy")}
    except Exception as error:  # NumPy and zipfile raise errors of many classes
        raise ArtifactError(f"{CHECK_FILE} does not hold the reference arrays: {error!r:.200}") from error
    count = len(found["images"]) if found["images"].ndim else 0
    shapes = {
        "images": ((count, INPUT_SIZE, INPUT_SIZE, 3), np.uint8),
        "probabilities": ((count, classes), np.float32),
        "energy": ((count,), np.float32),
    }
    for name, (shape, kind) in shapes.items():
        array = found[name]
        if array.shape != shape or array.dtype != kind:
            wanted = f"{kind.__name__} {shape}"
            raise ArtifactError(f"{name} of {CHECK_FILE} is {array.dtype} {array.shape}, not {wanted}")
    if not 1 <= count <= MAX_CHECK_IMAGES:
        raise ArtifactError(f"{CHECK_FILE} holds {count:,} images, not 1 to {MAX_CHECK_IMAGES}")
    if not (np.isfinite(found["probabilities"]).all() and np.isfinite(found["energy"]).all()):
        raise ArtifactError(f"{CHECK_FILE} holds answers that are not finite numbers")
    return Check(**found)


def _read(folder: Path, name: str, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises ArtifactError, or OSError if the system failed (TRANSIENT).
    """
    directory = _open(folder, os.O_DIRECTORY, "the version")
    try:
        # Without O_NONBLOCK, opening a named pipe waits for a writer.
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
            return file.read(limit)  # if a model is written meanwhile, its SHA-256 differs
    finally:
        os.close(descriptor)


def _open(path: Path | str, flags: int, what: str, directory: int | None = None) -> int:
    """Open for reading, but refuse a link. Returns the descriptor."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=directory)
    except OSError as error:
        if error.errno in TRANSIENT:
            raise
        is_link = error.errno in (errno.ELOOP, errno.ENOTDIR)  # ENOTDIR: a link to a folder
        reason = "is a link, which is not followed" if is_link else f"cannot be read: {error.strerror}"
        raise ArtifactError(f"{what} {reason}") from error


def _parse_json(content: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ArtifactError, also for NaN and Infinity, which are not standard JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    if content.count(b"[") + content.count(b"{") > MAX_CARD_PARTS:
        raise ArtifactError(f"{CARD_FILE} holds more than {MAX_CARD_PARTS:,} lists and objects")
    try:
        fields = json.loads(content.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{CARD_FILE} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ArtifactError("the card is not a JSON object")
    return fields
