"""Reads labelled images into arrays: from a folder or an archive, or CIFAR-10 by download."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.archives import locked, unpack
from training.errors import DataError
from training.files import LeftOut, Sieve, is_system
from training.model import INPUT_SIZE

MIN_TRAIN_IMAGES = 64
MAX_UNREADABLE_SHARE = 0.01
MAX_CLASSES, MAX_CLASS_CHARACTERS = 1000, 100  # the limits of a card (docs/model-artifact.md)
# Characters inside the words of some scripts and inside emoji. Python does not count them as printable.
JOINERS = "[\u200c\u200d]"
DEPTH = 6  # folders that may be around train/ and test/, as in an archive of home/me/pictures/flowers

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
    left_out: Sequence[LeftOut] = ()

    def fingerprint(self, *splits: Split) -> str:
        """SHA-256 of the classes and of the images and labels in `splits`, by default train and test."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for split in splits or (self.train, self.test):
            digest.update(split.images.tobytes())
            digest.update(split.labels.tobytes())
        return digest.hexdigest()


def load(source: Path | None, cache: Path, name: str | None = None) -> Dataset:
    """Read the data set at `source`. Without a source, download CIFAR-10 to `cache`.

    `source` is a folder that holds `train/<class>/*` and `test/<class>/*`, or a .tar or .zip archive of such
    a folder. Without `name`, the data set gets the name of the folder or archive. Raises DataError,
    which says what to change.
    """
    if source is None:
        return _download_cifar10(cache, name or "CIFAR-10")
    if not source.exists():
        raise DataError(f"{source} does not exist. Give a folder or archive with train/ and test/.")
    root = _find_root(source if source.is_dir() else unpack(source, cache))
    sieve = Sieve(root)
    folders = {part: sieve.list_classes(root / part) for part in ("train", "test")}
    classes = list(folders["train"])
    _check_classes(root, classes)
    if missing := set(classes) ^ set(folders["test"]):
        names = ", ".join(sorted(missing))
        raise DataError(f"{root}: train/ and test/ must hold the same class folders. Not in both: {names}.")
    train = _read_part(sieve, root / "train", folders["train"])
    test = _read_part(sieve, root / "test", folders["test"])
    _check_unreadable(sieve.unreadable, len(train) + len(test))
    _check_every_class(root / "train", classes, train.labels.tolist(), sieve.unreadable)
    _check_every_class(root / "test", classes, test.labels.tolist(), sieve.unreadable)
    if len(train) < MIN_TRAIN_IMAGES:
        raise DataError(f"{root} holds {len(train)} training images. At least {MIN_TRAIN_IMAGES} are needed.")
    return Dataset(name or source.name or source.resolve().name, classes, train, test, sieve.left_out)


def _find_root(folder: Path) -> Path:
    """The nearest folder in `folder` with train/, else `folder`. Raises DataError if two are equally near."""
    for depth in range(DEPTH + 1):
        places = [path.parent for path in folder.glob("*/" * depth + "train") if path.is_dir()]
        found = [place for place in places if not any(map(is_system, place.relative_to(folder).parts))]
        if len(found) > 1:
            names = ", ".join(str(place.relative_to(folder)) for place in sorted(found)[:3])
            raise DataError(f"{folder} holds more than one data set ({names}). Name one of these folders.")
        if found:
            return found[0]
    return folder


def _download_cifar10(cache: Path, name: str) -> Dataset:
    with locked(cache):
        from torchvision.datasets import CIFAR10  # here, because this import takes four seconds

        try:
            train, test = (CIFAR10(str(cache), train=train, download=True) for train in (True, False))
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"CIFAR-10 could not be downloaded ({error}). Name a data set of your own: --data on the "
                "command line, `data` over HTTP."
            ) from error
    train_split, test_split = (
        Split(np.asarray(part.data), np.asarray(part.targets, np.int64)) for part in (train, test)
    )
    return Dataset(name, list(train.classes), train_split, test_split)


def _check_classes(root: Path, classes: Sequence[str]) -> None:
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise DataError(f"{root}/train holds {len(classes)} classes; it must hold 2 to {MAX_CLASSES:,}.")
    for name in classes:
        shown = re.sub(JOINERS, "", name)
        if not shown.strip() or not shown.isprintable() or len(name) > MAX_CLASS_CHARACTERS:
            raise DataError(
                f"{root}/train: {name!r} cannot be the name of a class. Rename the folder: at most "
                f"{MAX_CLASS_CHARACTERS} printable characters."
            )


def _read_part(sieve: Sieve, part: Path, classes: Mapping[str, Sequence[Path]]) -> Split:
    """Decode every image as the service decodes uploads: upright, on white, cropped to a square, scaled.

    `sieve` records the files that are left out.
    """
    files = [
        (file, label)
        for label, folders in enumerate(classes.values())
        for folder in folders
        for file in sieve.list_files(folder)
    ]
    _check_every_class(part, list(classes), [label for _, label in files])
    images = np.empty((len(files), INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)
    labels: list[int] = []
    for file, label in tqdm(files, desc=f"reading {part.name}", unit="image", disable=None):
        pixels = sieve.read_pixels(file)
        if pixels is not None:
            images[len(labels)] = np.frombuffer(pixels, np.uint8).reshape(images.shape[1:])
            labels.append(label)
    return Split(images[: len(labels)], np.array(labels, dtype=np.int64))


def _check_every_class(
    part: Path, classes: Sequence[str], labels: Sequence[int], unreadable: Sequence[str] = ()
) -> None:
    if empty := set(range(len(classes))) - set(labels):
        name = classes[min(empty)]
        damaged = [note for note in unreadable if note.startswith(f"{part.name}/{name}/")]
        what = f"no image that can be read: {damaged[0]}" if damaged else "no image"
        raise DataError(
            f"{part / name} holds {what}. Add images, or remove this class from train/ and test/."
        )


def _check_unreadable(unreadable: Sequence[str], readable: int) -> None:
    """Raises DataError if more than one image in a hundred is unreadable."""
    if len(unreadable) > MAX_UNREADABLE_SHARE * (len(unreadable) + readable):
        examples = "; ".join(unreadable[:3])
        raise DataError(
            f"{len(unreadable):,} of {len(unreadable) + readable:,} images cannot be read: {examples}. "
            "Repair or remove them."
        )
