"""The pictures of a model: PNG files in its folder. The content of this folder is not trusted.

Only regular files with the signature of PNG are read. Symbolic links and devices are refused.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from backend.errors import Refusal, ServiceError

NAMES = ("learning-curve", "confusion", "reliability", "mistakes")
MAX_BYTES = 8 * 2**20
PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"  # the signature, and the start of the first chunk


def find_pictures(models: Path, version: str) -> list[str]:
    """The names of the pictures that a version has."""
    found: list[str] = []
    for name in NAMES:
        with suppress(ServiceError):
            read_picture(models, version, name, len(PNG_START))
            found.append(name)
    return found


def read_picture(models: Path, version: str, name: str, limit: int = MAX_BYTES) -> bytes:
    """The content of one picture, or its first `limit` bytes. Raises UNKNOWN_PICTURE."""
    if name not in NAMES:
        raise ServiceError(Refusal.UNKNOWN_PICTURE, f"A model has the pictures {', '.join(NAMES)}.")
    try:
        folder = os.open(models / version, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # Without O_NONBLOCK, opening a pipe would wait for its writer.
            file = os.open(f"{name}.png", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            status = os.fstat(file)
            content = os.read(file, limit) if stat.S_ISREG(status.st_mode) else b""
        finally:
            os.close(file)
    except OSError as error:
        detail = "This model has no such picture. GET the model for the list of its pictures."
        raise ServiceError(Refusal.UNKNOWN_PICTURE, detail) from error
    if status.st_size > MAX_BYTES or not content.startswith(PNG_START):
        detail = "The picture file is damaged or too large. Train another model."
        raise ServiceError(Refusal.UNKNOWN_PICTURE, detail)
    return content
