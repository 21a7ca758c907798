"""Labelled images as arrays: CIFAR-10 by download, or a folder tree or archive of one's own."""

import fcntl
import hashlib
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.datasets.folder import find_classes, make_dataset
from tqdm import tqdm

from images import decode
from images.errors import ImageError
from training.errors import DataError
from training.model import INPUT_SIZE

MIN_TRAIN_IMAGES = 64
MAX_IMAGE_PIXELS = 100_000_000
MAX_CLASSES, MAX_CLASS_CHARACTERS = 1000, 100  # what a model's card may hold (docs/model-artifact.md)
FORMATS = (*decode.FORMATS, "PPM")  # PPM, too: some data sets come in it
UNPACKING_ERRORS = (  # all that damaged, cut off or locked archives raise
    EOFError, LookupError, NotImplementedError, OSError, RuntimeError, ValueError,
    lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Images (count, 32, 32, 3) uint8 RGB and their labels (count,) as indices into the classes."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    name: str
    classes: list[str]
    train: Split
    test: Split

    def fingerprint(self) -> str:
        """SHA-256 over classes, pixels and labels: the same data gives the same text."""
        return self._digest(self.train, self.test)

    def test_fingerprint(self) -> str:
        """The same of the test part: models with the same one were measured on the same images."""
        return self._digest(self.test)

    def _digest(self, *splits: Split) -> str:
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for split in splits:
            digest.update(split.images.tobytes())
            digest.update(split.labels.tobytes())
        return digest.hexdigest()


def load(source: Path | None, cache: Path) -> Dataset:
    """Read the data set at `source`, or download CIFAR-10 to `cache` when there is none.

    `source` is a folder, or a .tar or .zip archive of one, that holds `train/<class>/*` and
    `test/<class>/*`. Raises DataError with a next step when it does not.
    """
    if source is None:
        return _download_cifar10(cache)
    if not source.exists():
        raise DataError(f"{source} does not exist; give a folder or archive with train/ and test/")
    root = _find_root(source if source.is_dir() else _unpack(source, cache))
    classes = _read_classes(root, "train")
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise DataError(f"{root}/train holds {len(classes)} classes; 2 to {MAX_CLASSES:,} can be told apart")
    if bad := [c for c in classes if not c.strip() or not c.isprintable() or len(c) > MAX_CLASS_CHARACTERS]:
        raise DataError(
            f"{root}/train: {bad[0]!r} cannot be the name of a class; rename the folder, to at most "
            f"{MAX_CLASS_CHARACTERS} letters, digits and the like"
        )
    if missing := set(classes) ^ set(_read_classes(root, "test")):
        names = ", ".join(sorted(missing))
        raise DataError(f"{root}: train/ and test/ must hold the same class folders; one lacks {names}")
    train = _read_tree(root / "train")
    test = _read_tree(root / "test")
    if len(train) < MIN_TRAIN_IMAGES:
        raise DataError(f"{root}: {len(train)} training images; at least {MIN_TRAIN_IMAGES} are needed")
    return Dataset(source.name, classes, train, test)


def _find_root(folder: Path) -> Path:
    """The folder with train/: this one, or the only one in it that has it."""
    if (folder / "train").is_dir():
        return folder
    inside = [entry for entry in folder.iterdir() if (entry / "train").is_dir()]
    return inside[0] if len(inside) == 1 else folder


def _download_cifar10(cache: Path) -> Dataset:
    with _alone(cache):
        try:
            train, test = (CIFAR10(str(cache), train=train, download=True) for train in (True, False))
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"CIFAR-10 could not be downloaded ({error}); give a copy of your own with --data"
            ) from error
    splits = [Split(np.asarray(part.data), np.asarray(part.targets, np.int64)) for part in (train, test)]
    return Dataset("CIFAR-10", list(train.classes), *splits)


@contextmanager
def _alone(cache: Path) -> Generator[None]:
    """Keep other processes from changing the cache, and clear away what killed ones had not finished."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / ".lock").open("w")
    except OSError as error:
        raise DataError(f"{cache} cannot be written ({error}); name another folder with --cache") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for partial in cache.glob(".partial-*"):
            shutil.rmtree(partial, ignore_errors=True)
        yield


def _unpack(archive: Path, cache: Path) -> Path:
    """Unpack once, to a folder named by the archive's content."""
    with archive.open("rb") as file:
        root = cache / hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if root.exists():
        return root
    with _alone(cache):
        if root.exists():  # unpacked while this process waited
            return root
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache) as partial:
            unpacked = Path(partial) / "images"
            try:
                _extract(archive, unpacked, shutil.disk_usage(cache).free // 2)
            except UNPACKING_ERRORS as error:
                raise DataError(f"{archive} cannot be unpacked ({error}); make it anew") from error
            unpacked.rename(root)
    return root


def _extract(archive: Path, folder: Path, max_bytes: int) -> None:
    """Write out what the archive holds, within `folder`. Raises DataError and UNPACKING_ERRORS."""
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            _check_size(archive, sum(member.size for member in tar), max_bytes)
            tar.extractall(folder, filter=_refuse_links)  # noqa: S202 - the filter keeps within the folder
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            _check_size(archive, sum(member.file_size for member in zipped.infolist()), max_bytes)
            zipped.extractall(folder)  # noqa: S202 - it drops absolute paths and .., and writes no links
    else:
        raise DataError(f"{archive} is neither a folder nor a .tar or .zip archive")


def _check_size(archive: Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DataError(
            f"{archive} would take {size:,} bytes, more than half of what is free on the disk; make room, or "
            "scale the images down"
        )


def _refuse_links(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """The standard filter, and no links, which could lead in circles."""
    if not (member.isreg() or member.isdir()):
        raise DataError(f"{member.name} in the archive is a link; put the file itself there")
    return tarfile.data_filter(member, folder)


def _read_classes(root: Path, part: str) -> list[str]:
    try:
        return find_classes(str(root / part))[0]
    except FileNotFoundError as error:
        advice = "move about a tenth of each class there" if part == "test" else "put the images there"
        raise DataError(
            f"{root / part} must exist and hold one folder of images for each class; {advice}"
        ) from error


def _read_tree(folder: Path) -> Split:
    """Every image, turned upright, on white, cropped to a square and scaled, as the service does with what is
    uploaded. Raises DataError that names the unreadable ones."""
    try:
        files = make_dataset(str(folder), extensions=_list_extensions())
    except FileNotFoundError as error:  # a class without images; the text names it
        raise DataError(f"{folder}: {error}; add images or remove the folder") from error
    images = np.empty((len(files), INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)
    unreadable: list[str] = []
    bar = tqdm(files, desc=f"reading {folder.name}", unit="image", disable=None)
    for index, (path, _) in enumerate(bar):
        try:
            pixels = decode.decode(Path(path).read_bytes(), MAX_IMAGE_PIXELS, FORMATS)
            images[index] = np.frombuffer(pixels, np.uint8).reshape(images.shape[1:])
        except (ImageError, OSError) as error:
            unreadable.append(f"{path} ({error})")
    if unreadable:
        examples = "; ".join(unreadable[:3])
        raise DataError(
            f"{len(unreadable)} files cannot be read as images: {examples}; repair or remove them"
        )
    return Split(images, np.array([label for _, label in files], dtype=np.int64))


def _list_extensions() -> tuple[str, ...]:
    return tuple(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)
