"""Which files of a data set are images, which are left out, and the notes about them."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.images.files import encode
from training import data, files
from training.data import Dataset
from training.errors import DataError

CLASSES = ("daisy", "tulip")


def write_image(file: Path, shade: int = 100) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(Image.new("RGB", (40, 40), (shade, 0, 0))))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes, 60 training and 10 test images each: one bad image stays under the limit of 1%."""
    root = tmp_path / "flowers"
    for name in CLASSES:
        for part, count in (("train", 60), ("test", 10)):
            for number in range(count):
                write_image(root / part / name / f"{number:03}.png")
    return root


@pytest.fixture
def load(tree: Path, tmp_path: Path) -> Callable[[], Dataset]:
    return lambda: data.load(tree, tmp_path / "cache")


def count_left_out(dataset: Dataset) -> dict[str, int]:
    return {left_out.reason: left_out.count for left_out in dataset.left_out}


@pytest.mark.parametrize(
    "name",
    [
        "._000.png", ".000.png.icloud", ".ipynb_checkpoints/000-checkpoint.png", "@eaDir/000.png/THUMB.jpg",
        ".thumbnails/000.png", "__MACOSX/000.png", "Thumbs.db", "THUMBS.DB", "Desktop.ini", ".DS_Store",
        "#recycle/000.png", "$RECYCLE.BIN/000.png", "System Volume Information/000.png",
        "lost+found/000.png", "000.png~", "@Recycle/000.png", "Icon\r",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["train", "train/daisy", "test/tulip/more"])
def test_system_files_are_neither_images_nor_classes(
    name: str, place: str, tree: Path, load: Callable[[], Dataset]
) -> None:
    before = load()
    write_image(tree / place / name)
    after = load()
    assert after.classes == list(CLASSES)
    assert after.fingerprint() == before.fingerprint()
    assert count_left_out(after) == {files.SYSTEM: 1}
    example = f"{place}/{name.split('/')[0]}{'/' if '/' in name else ''}".replace("\r", "\ufffd")
    assert after.left_out[0].examples == [example]


def test_images_are_recognised_by_content_whatever_their_ending(
    tree: Path, load: Callable[[], Dataset]
) -> None:
    for number, name in enumerate(("img", "img.jfif", "img.JPG", "img.dat", "img.png.download", "img.000")):
        write_image(tree / "train/daisy" / name, number)
    dataset = load()
    assert len(dataset.train) == 126 and dataset.left_out == []


def test_files_that_are_no_images_or_in_no_class_are_left_out_with_a_note(
    tree: Path, load: Callable[[], Dataset]
) -> None:
    for name in ("README.txt", "labels.csv", "notes", "clip.mp4", "000.png:Zone.Identifier"):
        (tree / "train/daisy" / name).write_text("this is no image")
    (tree / "train/daisy/empty.txt").touch()
    (tree / "train/tulip/README.md").write_text("BMW is no tulip")  # a BMP begins with BM
    (tree / "train/tulip/list.txt").write_text("P1 is the first one")  # a PPM may begin with P1
    (tree / "train/licence.txt").write_text("beside the classes")
    write_image(tree / "test/stray.png")
    dataset = load()
    assert len(dataset.train) == 120 and len(dataset.test) == 20
    assert count_left_out(dataset) == {files.NO_IMAGE: 8, files.OUTSIDE: 2}
    assert str(dataset.left_out[0]) == (
        f"{files.NO_IMAGE}: 8 (train/daisy/000.png:Zone.Identifier, train/daisy/README.txt, "
        "train/daisy/clip.mp4, …)"
    )


def break_image(file: Path, how: str) -> None:
    content = file.read_bytes()
    match how:
        case "cut short":
            file.write_bytes(content[: len(content) // 2])
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_text("no image at all")
        case "too large":
            with file.open("wb") as sparse:
                sparse.truncate(files.MAX_FILE_BYTES + 1)
        case "link to nothing":
            file.unlink()
            file.symlink_to("nowhere.png")
        case "link to itself":
            file.unlink()
            file.symlink_to(file.name)
        case _:
            raise ValueError(how)


@pytest.mark.parametrize("ending", [".heic", ".HEIF", ".hif", ".avif", ".jfif", ".tif", ".pgm"])
def test_an_empty_file_with_the_ending_of_an_image_is_unreadable(
    ending: str, tree: Path, load: Callable[[], Dataset]
) -> None:
    (tree / f"train/tulip/empty{ending}").touch()
    (left_out,) = load().left_out
    assert left_out.reason == files.UNREADABLE
    assert left_out.examples == [f"train/tulip/empty{ending} (The file is empty.)"]


HOW = ["cut short", "empty", "text", "too large", "link to nothing", "link to itself"]


@pytest.mark.parametrize("how", HOW)
def test_one_unreadable_image_among_many_is_left_out_and_named(
    how: str, tree: Path, load: Callable[[], Dataset]
) -> None:
    break_image(tree / "train/tulip/007.png", how)
    dataset = load()
    assert len(dataset.train) == 119
    assert dataset.train.labels.tolist() == [0] * 60 + [1] * 59
    (left_out,) = dataset.left_out
    assert left_out.reason == files.UNREADABLE
    assert left_out.examples[0].startswith("train/tulip/007.png (")


def test_more_than_one_unreadable_image_in_a_hundred_is_an_error_that_names_them(
    tree: Path, load: Callable[[], Dataset]
) -> None:
    for number in (3, 8):
        break_image(tree / f"train/tulip/{number:03}.png", "cut short")
    with pytest.raises(DataError, match=r"2 of 140 images .*003\.png.*008\.png.*Repair or remove"):
        load()


def test_a_class_without_a_test_image_is_an_error(tree: Path, load: Callable[[], Dataset]) -> None:
    for file in (tree / "test/tulip").iterdir():
        file.rename(file.with_suffix(".txt"))
        file.with_suffix(".txt").write_text("no image")
    with pytest.raises(DataError, match="tulip holds no image"):
        load()


def test_a_class_whose_only_training_image_is_damaged_is_an_error_that_names_it(
    tree: Path, load: Callable[[], Dataset]
) -> None:
    for number in range(200):  # so one unreadable image is far below the limit of one in a hundred
        write_image(tree / f"train/daisy/more/{number:03}.png")
    for part in ("train", "test"):
        write_image(tree / part / "rose/000.png")
    break_image(tree / "train/rose/000.png", "cut short")
    with pytest.raises(DataError, match=r"rose holds no image that can be read: train/rose/000\.png"):
        load()


def test_folders_in_a_class_are_read_even_if_their_names_end_like_images(
    tree: Path, load: Callable[[], Dataset]
) -> None:
    write_image(tree / "train/daisy/album.png/001.png")
    write_image(tree / "train/daisy/2024/may/001.png")
    dataset = load()
    assert len(dataset.train) == 122 and dataset.left_out == []


def test_links_are_followed_but_not_in_circles(tree: Path, load: Callable[[], Dataset]) -> None:
    elsewhere = tree.parent / "elsewhere"
    write_image(elsewhere / "more/001.png")
    write_image(elsewhere / "002.png")
    daisy = tree / "train/daisy"
    (daisy / "more").symlink_to(elsewhere / "more")
    (daisy / "other.png").symlink_to(elsewhere / "002.png")
    (daisy / "self").symlink_to(".")
    (daisy / "up").symlink_to("../..")
    (daisy / "root").symlink_to("/")
    dataset = load()
    assert len(dataset.train) == 122
    assert count_left_out(dataset) == {files.CIRCLE: 3}


@pytest.mark.parametrize("target", [".", ".."])
def test_a_class_that_links_to_a_folder_above_it_is_an_error(
    target: str, tree: Path, load: Callable[[], Dataset]
) -> None:
    for part in ("train", "test"):
        (tree / part / "everything").symlink_to(target)
    with pytest.raises(DataError, match="everything"):
        load()


def test_a_named_pipe_is_left_out(tree: Path, load: Callable[[], Dataset]) -> None:
    os.mkfifo(tree / "train/daisy/pipe.png")
    dataset = load()
    assert len(dataset.train) == 120
    assert count_left_out(dataset) == {files.SPECIAL: 1}


def test_two_spellings_of_an_accent_are_one_class(tree: Path, load: Callable[[], Dataset]) -> None:
    (tree / "train/daisy").rename(tree / "train" / unicodedata.normalize("NFD", "pâquerette"))
    (tree / "test/daisy").rename(tree / "test/pâquerette")
    write_image(tree / "train/pâquerette/one more.png")
    dataset = load()
    assert dataset.classes == ["pâquerette", "tulip"]
    assert np.bincount(dataset.train.labels).tolist() == [61, 60]


def test_unprintable_characters_of_names_are_replaced_in_notes(
    tree: Path, load: Callable[[], Dataset]
) -> None:
    (tree / "train/daisy" / os.fsdecode(b"caf\xe9 \x1b[31m.txt")).write_text("no image")
    (left_out,) = load().left_out
    assert left_out.examples == ["train/daisy/caf\ufffd \ufffd[31m.txt"]


def test_images_have_a_fixed_order(tree: Path, load: Callable[[], Dataset]) -> None:
    """By the folder's path as text, then by file name: the fingerprints in published cards depend on it."""
    order = ["zz.png", "B/x.png", "a/z.png", "a-b/y.png", "a/b/a.png"]
    for file in (tree / "test/tulip").iterdir():
        file.unlink()
    for shade, name in enumerate(order):
        write_image(tree / "test/tulip" / name, 10 * shade)
    dataset = load()
    shades = dataset.test.images[dataset.test.labels == 1][:, 0, 0, 0]
    assert [order[shade // 10] for shade in shades.tolist()] == order
