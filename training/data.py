"""Labelled images as arrays: CIFAR-10 by download, or a folder tree or archive of one's own."""

import hashlib
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.datasets import CIFAR10
from torchvision.datasets.folder import find_classes, make_dataset
from tqdm import tqdm

from training.model import INPUT_SIZE

MIN_TRAIN_IMAGES = 64

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class DataError(Exception):
    """The training data cannot be used; the text says what to change."""


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
    if len(classes) < 2:
        raise DataError(f"{root}/train holds one class, {classes[0]}; telling apart takes at least two")
    if missing := set(classes) ^ set(_read_classes(root, "test")):
        names = ", ".join(sorted(missing))
        raise DataError(f"{root}: train/ and test/ must hold the same class folders; one lacks {names}")
    train = _read_tree(root / "train")
    test = _read_tree(root / "test")
    if len(train) < MIN_TRAIN_IMAGES:
        raise DataError(f"{root}: {len(train)} training images; at least {MIN_TRAIN_IMAGES} are needed")
    return Dataset(source.name, classes, train, test)


def _find_root(folder: Path) -> Path:
    """The folder with train/, which may be the only one in this one."""
    if (folder / "train").is_dir():
        return folder
    inside = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return inside[0] if len(inside) == 1 and (inside[0] / "train").is_dir() else folder


def _download_cifar10(cache: Path) -> Dataset:
    splits: list[Split] = []
    classes: list[str] = []
    for train in (True, False):
        try:
            dataset = CIFAR10(str(cache), train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"CIFAR-10 could not be downloaded ({error}); give a copy of your own with --data"
            ) from error
        splits.append(Split(np.asarray(dataset.data), np.asarray(dataset.targets, dtype=np.int64)))
        classes = list(dataset.classes)
    return Dataset("CIFAR-10", classes, *splits)


def _unpack(archive: Path, cache: Path) -> Path:
    """Unpack once, to a folder named by the archive's content."""
    with archive.open("rb") as file:
        root = cache / hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if not root.exists():
        partial = root.with_suffix(".partial")
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(partial, filter="data")
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(partial)  # noqa: S202 - it drops absolute paths and ..
        else:
            raise DataError(f"{archive} is neither a folder nor a .tar or .zip archive")
        partial.rename(root)
    return root


def _read_classes(root: Path, part: str) -> list[str]:
    try:
        return find_classes(str(root / part))[0]
    except FileNotFoundError as error:
        advice = "move about a tenth of each class there" if part == "test" else "put the images there"
        raise DataError(
            f"{root / part} must exist and hold one folder of images for each class; {advice}"
        ) from error


def _read_tree(folder: Path) -> Split:
    """Every image, cropped to a square and scaled. Raises DataError that names the unreadable ones."""
    try:
        files = make_dataset(str(folder), extensions=tuple(Image.registered_extensions()))
    except FileNotFoundError as error:  # a class without images; the text names it
        raise DataError(f"{folder}: {error}; add images or remove the folder") from error
    images = np.empty((len(files), INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)
    unreadable: list[str] = []
    bar = tqdm(files, desc=f"reading {folder.name}", unit="image", disable=None)
    for index, (path, _) in enumerate(bar):
        try:
            with Image.open(path) as image:
                fitted = ImageOps.fit(image.convert("RGB"), (INPUT_SIZE, INPUT_SIZE))
                images[index] = np.asarray(fitted)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            unreadable.append(f"{path} ({error})")
    if unreadable:
        examples = "; ".join(unreadable[:3])
        raise DataError(
            f"{len(unreadable)} files cannot be read as images: {examples}; repair or remove them"
        )
    return Split(images, np.array([label for _, label in files], dtype=np.int64))
