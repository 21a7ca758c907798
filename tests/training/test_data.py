"""A user's data set is read, or refused with advice."""

import shutil
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from training import archives, data
from training.errors import DataError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes, each with 40 training images and 4 test images of 48 x 40 pixels."""
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


def test_the_name_of_a_class_may_contain_joiners(tree: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tree / part / "dark").rename(tree / part / "\u0645\u06cc\u200c\u0634\u0628")  # Persian
        (tree / part / "light").rename(tree / part / "\U0001f468\u200d\U0001f469")  # emoji
    classes = data.load(tree, tmp_path / "cache").classes
    assert classes == ["\u0645\u06cc\u200c\u0634\u0628", "\U0001f468\u200d\U0001f469"]


@pytest.mark.parametrize("name", ["a\u202eb", "a\nb", "\u200d", " "])
def test_a_blank_or_unprintable_class_name_is_refused(name: str, tree: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tree / part / "dark").rename(tree / part / name)
    with pytest.raises(DataError, match=r"cannot be the name of a class\. Rename the folder"):
        data.load(tree, tmp_path / "cache")


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
    assert len(list(cache.glob("[!.]*"))) == 1
    assert not list(cache.glob(".partial-*"))


def test_files_that_a_killed_process_unpacked_are_removed(tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tree, ".")
    left = tmp_path / "cache/.partial-x/images/train"
    left.mkdir(parents=True)
    data.load(archive, tmp_path / "cache")
    assert not left.exists()


def test_a_cache_that_cannot_be_written_is_an_error(tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tree, ".")
    (tmp_path / "cache").write_text("a file in its place")
    for source in (archive, None):
        with pytest.raises(DataError, match="cannot be written"):
            data.load(source, tmp_path / "cache")


def test_several_loads_of_one_archive_unpack_it_once(tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tree, ".")
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(4) as threads:
        loaded = list(threads.map(lambda _: data.load(archive, cache), range(4)))
    assert len({dataset.fingerprint() for dataset in loaded}) == 1
    assert len(list(cache.glob("[!.]*"))) == 1


def test_a_data_set_may_lie_one_folder_deeper_beside_a_system_folder(tree: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "__MACOSX").mkdir()
    tree.rename(outer / "flowers")
    assert len(data.load(outer, tmp_path).train) == 80


def test_an_image_with_16_bits_is_scaled_to_8(tree: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 40_000, dtype=np.uint16)).save(tree / "test/dark/0.png")
    assert (data.load(tree, tmp_path).test.images[0] == 156).all()


def test_one_changed_image_changes_the_fingerprint(tree: Path, tmp_path: Path) -> None:
    before = data.load(tree, tmp_path).fingerprint()
    Image.new("RGB", (48, 40), (31, 0, 0)).save(tree / "train/dark/0.png")
    assert data.load(tree, tmp_path).fingerprint() != before


def test_images_are_turned_upright_and_put_on_white_as_uploads_are(tree: Path, tmp_path: Path) -> None:
    halves = Image.new("RGB", (40, 40), "red")
    halves.paste("blue", (0, 0, 20, 40))  # on the left as it is stored, at the top once it is turned
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned clockwise by a quarter
    halves.save(tree / "test/dark/0.png", exif=exif)
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tree / "test/dark/1.png")
    turned, transparent, *_ = data.load(tree, tmp_path).test.images
    assert turned[2, 16].tolist() == [0, 0, 255]
    assert turned[-2, 16].tolist() == [255, 0, 0]
    assert (transparent == 255).all()


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
        case "one class":
            for part in ("train", "test"):
                shutil.rmtree(tree / part / "light")
        case "long name":
            for part in ("train", "test"):
                (tree / part / "light").rename(tree / part / ("light" * 30))
        case "cut off archive":
            with tarfile.open(tree / "whole.tar.gz", "w:gz") as tar:
                tar.add(tree / "train", "train")
            content = (tree / "whole.tar.gz").read_bytes()
            (tree / "half.tar.gz").write_bytes(content[: len(content) // 2])
            return tree / "half.tar.gz"
        case "link":
            (tree / "train/dark/again").symlink_to(".")
            with tarfile.open(tree / "linked.tar", "w") as tar:
                tar.add(tree / "train", "train")
            return tree / "linked.tar"
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
        ("broken image", "Repair or remove"),
        ("too few", "At least 64"),
        ("one class", "2 to 1,000"),
        ("long name", "Rename the folder"),
        ("cut off archive", "cannot be unpacked"),
        ("link", "is a link"),
        ("no archive", "neither a folder nor"),
    ],
)
def test_unusable_data_is_refused_with_advice(how: str, words: str, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        data.load(spoil(tree, how), tmp_path / "cache")


def pack(kind: str, tree: Path, archive: Path, prefix: str = "") -> Path:
    """The tree's training images as an archive, each name with a prefix."""
    files = {f"{prefix}{file.relative_to(tree)}": file for file in (tree / "train").rglob("*.png")}
    if kind == "tar":
        with tarfile.open(archive, "w") as tar:
            for name, file in files.items():
                tar.add(file, name)
    else:
        with zipfile.ZipFile(archive, "w") as zipped:
            for name, file in files.items():
                zipped.write(file, name)
    return archive


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("prefix", ["../" * 4, "train/" + "../" * 5], ids=["up", "down and up"])
def test_nothing_is_unpacked_outside_the_cache(prefix: str, kind: str, tree: Path, tmp_path: Path) -> None:
    archive = pack(kind, tree, tmp_path / "images", prefix)
    before = set(tmp_path.rglob("*.png"))
    with pytest.raises(DataError):
        data.load(archive, tmp_path / "deep/cache")
    assert {path for path in tmp_path.rglob("*.png") if tmp_path / "deep/cache" not in path.parents} == before


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_would_fill_the_disk_is_not_unpacked(
    kind: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(kind, tree, tmp_path / "images")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match="Make room"):
        data.load(archive, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("[!.]*")) == []
