"""Data of one's own: read as it lies, or refused with what to change."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import data


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes, 40 training and 4 test images each, of a size of their own."""
    root = tmp_path / "tree"
    for split, count in (("train", 40), ("test", 4)):
        for shade, name in ((30, "dark"), (220, "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (48, 40), (shade, number, 0)).save(folder / f"{number}.png")
    return root


def test_a_folder_tree_is_read_with_its_own_classes(tree: Path, tmp_path: Path) -> None:
    dataset = data.load(tree, tmp_path / "cache")
    assert dataset.classes == ["dark", "light"]
    assert dataset.train.images.shape == (80, 32, 32, 3)
    assert dataset.train.images.dtype == np.uint8
    assert {int(image[0, 0, 0]) for image in dataset.test.images[dataset.test.labels == 1]} == {220}


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_is_unpacked_once_and_equals_its_folder(kind: str, tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / f"images.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for file in tree.rglob("*.png"):
                zipped.write(file, file.relative_to(tree))
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(tree, ".")
    cache = tmp_path / "cache"
    first, again = data.load(archive, cache), data.load(archive, cache)
    assert first.fingerprint() == again.fingerprint() == data.load(tree, cache).fingerprint()
    assert len(list(cache.iterdir())) == 1


def test_the_fingerprint_notices_one_changed_pixel(tree: Path, tmp_path: Path) -> None:
    before = data.load(tree, tmp_path).fingerprint()
    Image.new("RGB", (48, 40), (31, 0, 0)).save(tree / "train/dark/0.png")
    assert data.load(tree, tmp_path).fingerprint() != before


def spoil(tree: Path, how: str) -> Path:
    match how:
        case "missing":
            return tree / "nowhere"
        case "no test":
            (tree / "test").rename(tree / "validation")
        case "other classes":
            (tree / "test/light").rename(tree / "test/bright")
        case "broken image":
            (tree / "train/dark/0.png").write_bytes(b"not an image")
        case "too few":
            for file in (tree / "train").rglob("[1-9]*.png"):
                file.unlink()
        case "no archive":
            (tree / "file").write_text("hello")
            return tree / "file"
        case _:
            raise ValueError(how)
    return tree


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "does not exist"),
        ("no test", "one folder of images for each class"),
        ("other classes", "same class folders"),
        ("broken image", "repair or remove"),
        ("too few", "at least 64"),
        ("no archive", "neither a folder nor"),
    ],
)
def test_unusable_data_is_refused_with_what_to_change(
    how: str, words: str, tree: Path, tmp_path: Path
) -> None:
    with pytest.raises(data.DataError, match=words):
        data.load(spoil(tree, how), tmp_path / "cache")
