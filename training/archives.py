"""Unpacks an archive of images into the cache, once."""

import fcntl
import hashlib
import logging
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from training import archive_names
from training.errors import DataError

logger = logging.getLogger(__name__)

LAYOUT = 3  # part of each folder's name; raise it when the code unpacks the same archive differently
UNPACKING_ERRORS = (  # what damaged, cut off or encrypted archives raise
    EOFError, LookupError, NotImplementedError, OSError, RuntimeError, ValueError,
    lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def locked(cache: Path) -> Generator[None]:
    """Lock the cache against other processes, and remove unfinished folders of killed processes."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / ".lock").open("w")
    except OSError as error:
        raise DataError(
            f"{cache} cannot be written ({error}). Name another folder: --cache on the command line, "
            "CACHE_PATH for the training worker."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for partial in cache.glob(".partial-*"):
            shutil.rmtree(partial, ignore_errors=True)
        yield


def unpack(archive: Path, cache: Path) -> Path:
    """The unpacked archive: a folder named by its hash, created if it is missing. Raises DataError."""
    with archive.open("rb") as file:
        root = cache / f"{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}-{LAYOUT}"
    if root.exists():
        return root
    with locked(cache):
        if root.exists():  # another process unpacked it while this one waited
            return root
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache) as partial:
            unpacked = Path(partial) / "images"
            unpacked.mkdir()
            try:
                _extract(archive, unpacked, shutil.disk_usage(cache).free // 2)
            except UNPACKING_ERRORS as error:
                raise DataError(f"{archive} cannot be unpacked ({error}). Create it again.") from error
            unpacked.rename(root)
    return root


def _extract(archive: Path, folder: Path, max_bytes: int) -> None:
    """Write the archive's files into `folder`. Raises DataError and UNPACKING_ERRORS."""
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            _check_end(tar)
            _check_size(archive, sum(member.size for member in members), max_bytes)
            names = [member.name for member in members]
            # A name with unprintable characters is perhaps not UTF-8; its bytes are decoded again.
            stored = [n if n.isprintable() else n.encode("utf-8", "surrogateescape") for n in names]
            for member, name in zip(members, _decode_names(archive, stored), strict=True):
                member.name = name
            tar.extractall(folder, members, filter=_filter_member)  # noqa: S202 - the filter keeps names inside
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            entries = [entry for entry in zipped.infolist() if entry.filename]
            if link := next((entry for entry in entries if stat.S_ISLNK(entry.external_attr >> 16)), None):
                raise DataError(f"{link.filename} in the archive is a link. Put the file itself there.")
            _check_size(archive, sum(entry.file_size for entry in entries), max_bytes)
            stored = [archive_names.read_name(entry) for entry in entries]
            for entry, name in zip(entries, _decode_names(archive, stored), strict=True):
                entry.filename = name
            zipped.extractall(folder, entries)  # noqa: S202 - zipfile writes only in `folder`, and no links
    else:
        raise DataError(f"{archive} is neither a folder nor a whole .tar or .zip archive. Create it again.")


def _check_end(tar: tarfile.TarFile) -> None:
    """Raise ReadError unless zeros follow the last file. tarfile itself accepts a tar that is cut short."""
    assert tar.fileobj
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut short or damaged")


def _decode_names(archive: Path, stored: Sequence[str | bytes]) -> list[str]:
    encoding = archive_names.find_encoding([name for name in stored if isinstance(name, bytes)])
    if encoding != "utf-8":
        logger.warning(
            "%s: its names are not UTF-8 and are read as %s; if the classes look wrong, create the archive "
            "again with names in UTF-8",
            archive.name,
            encoding,
        )
    decoded = [name if isinstance(name, str) else name.decode(encoding) for name in stored]
    return archive_names.use_slashes(decoded)


def _check_size(archive: Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DataError(
            f"{archive} would take {size:,} bytes, more than half of the free disk space. Make room, or "
            "scale the images down."
        )


def _filter_member(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """tarfile's data filter. Links are refused too, because they could form a circle. Raises DataError."""
    if not (member.isreg() or member.isdir()):
        kind = "a link" if member.islnk() or member.issym() else "neither a file nor a folder"
        raise DataError(f"{member.name} in the archive is {kind}. Put the file itself there.")
    return tarfile.data_filter(member, folder)
