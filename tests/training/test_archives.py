"""Archives from Windows, macOS and Linux: their folders, and the encoding of their names."""

import io
import logging
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.images.files import encode
from training import data
from training.archive_names import find_encoding, use_slashes
from training.errors import DataError

COUNTS = {"train": 40, "test": 4}


def make_png(number: int) -> bytes:
    return encode(Image.new("RGB", (8, 8), (number, 0, 0)))


def list_names(*classes: str, prefix: str = "", separator: str = "/") -> list[str]:
    return [
        prefix + separator.join((part, name, f"{number:03}.png"))
        for part, count in COUNTS.items()
        for name in classes
        for number in range(count)
    ]


class StoredName(zipfile.ZipInfo):
    """A zip entry whose name is the bytes `stored`, without the flag for UTF-8."""

    stored: bytes

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - zipfile calls this name
        return self.stored, self.flag_bits & ~0x800


def write_zip(archive: Path, names: list[bytes], extra: dict[bytes, bytes] | None = None) -> Path:
    with zipfile.ZipFile(archive, "w") as zipped:
        for number, name in enumerate(names):
            entry = StoredName(str(number))
            entry.stored = name
            entry.extra = (extra or {}).get(name, b"")
            zipped.writestr(entry, make_png(number))
    return archive


def write_tar(archive: Path, names: list[str], **options: str | int) -> Path:
    with tarfile.open(archive, "w", **options) as tar:  # pyright: ignore[reportArgumentType, reportCallIssue]
        for number, name in enumerate(names):
            content = make_png(number % 256)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def assert_read(archive: Path, cache: Path, *classes: str) -> data.Dataset:
    dataset = data.load(archive, cache)
    assert dataset.classes == sorted(classes)
    assert len(dataset.train) == 40 * len(classes) and len(dataset.test) == 4 * len(classes)
    return dataset


@pytest.mark.parametrize(
    ("encoding", "classes"),
    [
        ("cp866", ("роза", "тюльпан")),
        ("cp866", ("Кошки", "Собаки")),
        ("cp866", ("самолёт", "птица", "car")),
        ("cp437", ("müsli", "käse")),
        ("cp437", ("Äpfel", "Birnen", "Straße")),
        ("cp437", ("café", "forêt")),
        ("cp437", ("señal", "año")),
        ("cp850", ("maçã", "pão")),
        ("cp852", ("żółw", "łódź")),
        ("cp737", ("γάτα", "σκύλος")),
        ("cp932", ("ソース", "表")),  # in both names the second byte is a backslash
        ("cp932", ("ねこ", "いぬ")),
        ("gb18030", ("玫瑰", "郁金香")),
        ("cp949", ("고양이", "개")),
        ("cp1251", ("роза", "тюльпан")),
        ("cp1252", ("café", "Größe", "Ñandú")),
        ("cp720", ("قطة", "كلب")),
        ("utf-8", ("роза", "猫")),
    ],
)
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_names_without_the_flag_for_utf_8_are_decoded_and_a_guess_is_logged(
    encoding: str, classes: tuple[str, ...], separator: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [name.encode(encoding) for name in list_names(*classes, separator=separator)]
    with caplog.at_level(logging.WARNING):
        assert_read(write_zip(tmp_path / "images.zip", names), tmp_path / "cache", *classes)
    assert ("are read as" in caplog.text) == (encoding != "utf-8")


def test_a_name_that_is_marked_as_utf_8_is_read_as_utf_8(tmp_path: Path) -> None:
    names = list_names("роза", "猫")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as zipped:
        for number, name in enumerate(names):
            zipped.writestr(name, make_png(number))
        old = StoredName("x")
        old.stored = "train/роза/одна.png".encode("cp866")
        zipped.writestr(old, make_png(0))
    dataset = data.load(tmp_path / "images.zip", tmp_path / "cache")
    assert dataset.classes == ["роза", "猫"]
    assert len(dataset.train) == 81


def test_a_name_in_info_zip_s_unicode_field_is_read(tmp_path: Path) -> None:
    fields: dict[bytes, bytes] = {}
    for name in list_names("роза", "猫"):
        stored = name.encode("ascii", "replace") + b"x"
        field = struct.pack("<BI", 1, zlib.crc32(stored)) + name.encode()
        fields[stored] = struct.pack("<HH", 0x7075, len(field)) + field
    archive = tmp_path / "images.zip"
    names = [*fields]
    assert_read(write_zip(archive, names, fields), tmp_path / "cache", "роза", "猫")


@pytest.mark.parametrize("prefix", ["", "flowers\\", "flowers/", "C:\\Users\\me\\flowers\\"])
def test_backslashes_separate_the_folders_of_a_windows_zip(prefix: str, tmp_path: Path) -> None:
    names = [name.encode() for name in list_names("daisy", "tulip", prefix=prefix, separator="\\")]
    assert_read(write_zip(tmp_path / "images.zip", names), tmp_path / "cache", "daisy", "tulip")


def test_backslashes_separate_folders_only_if_slashes_do_not(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "images.tar", list_names("x^ \\frac", "a$b$"))
    assert_read(archive, tmp_path / "cache", "x^ \\frac", "a$b$")
    assert use_slashes(["train\\a\\1.png"]) == ["train/a/1.png"]


@pytest.mark.parametrize(
    "escape", ["..\\..\\..\\", "train\\..\\..\\..\\..\\", "C:\\..\\..\\..\\", "\\\\host\\share\\"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_backslashes_and_drives_do_not_lead_outside_the_cache(escape: str, kind: str, tmp_path: Path) -> None:
    names = list_names("daisy", "tulip", prefix=escape, separator="\\")
    archive = tmp_path / f"images.{kind}"
    if kind == "zip":
        write_zip(archive, [name.encode() for name in names])
    else:
        write_tar(archive, names)
    cache = tmp_path / "deep/er/cache"
    with suppress(DataError):
        data.load(archive, cache)
    assert all(cache in path.parents for path in tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (list_names("роза", "猫"), {"format": tarfile.PAX_FORMAT}),
        (list_names("роза", "猫", prefix="/home/me/flowers/"), {"format": tarfile.GNU_FORMAT}),
        (list_names("роза", "猫", prefix="flowers\\", separator="\\"), {"format": tarfile.GNU_FORMAT}),
        (list_names("роза", "猫", prefix="./a/b/"), {"format": tarfile.GNU_FORMAT}),
    ],
    ids=["pax", "absolute", "backslashes", "a folder in a folder"],
)
def test_tars_of_several_kinds_are_read(names: list[str], options: dict[str, int], tmp_path: Path) -> None:
    assert_read(write_tar(tmp_path / "images.tar", names, **options), tmp_path / "cache", "роза", "猫")


def test_a_tar_with_names_of_an_old_code_page_is_read(tmp_path: Path) -> None:
    names = list_names("роза", "тюльпан")
    archive = write_tar(tmp_path / "images.tar", names, format=tarfile.GNU_FORMAT, encoding="cp866")
    assert_read(archive, tmp_path / "cache", "роза", "тюльпан")


def test_an_archive_of_macos_is_read_without_its_metadata_files(tmp_path: Path) -> None:
    names = [
        unicodedata.normalize("NFD", name) for name in list_names("pâquerette", "tulipe", prefix="fleurs/")
    ]
    doubled = names + [f"__MACOSX/{name.rpartition('/')[0]}/._{name.rpartition('/')[2]}" for name in names]
    archive = write_zip(tmp_path / "fleurs.zip", [name.encode() for name in doubled])
    assert assert_read(archive, tmp_path / "cache", "pâquerette", "tulipe").left_out == []


def test_two_data_sets_in_an_archive_are_refused_and_both_named(tmp_path: Path) -> None:
    names = list_names("a", "b", prefix="one/") + list_names("a", "b", prefix="two/")
    with pytest.raises(DataError, match=r"more than one data set \(one, two\)"):
        data.load(write_tar(tmp_path / "images.tar", names), tmp_path / "cache")


def test_a_name_of_all_bytes_outside_ascii_is_decoded() -> None:
    everything = bytes(range(0x80, 0x100))
    assert everything.decode(find_encoding([everything]))


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "images.zip", [name.encode() for name in list_names("a", "b")])
    with zipfile.ZipFile(archive, "a") as zipped:
        link = zipfile.ZipInfo("train/c")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "a")
    with pytest.raises(DataError, match="train/c in the archive is a link"):
        data.load(archive, tmp_path / "cache")


def test_a_tar_without_its_last_bytes_is_refused(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "images.tar", list_names("a", "b")).read_bytes()
    files = whole.rstrip(b"\0")
    for end in range(len(files) - 3 * tarfile.BLOCKSIZE, len(files), 100):
        cut = tmp_path / "cut.tar"
        cut.write_bytes(whole[:end])
        with pytest.raises(DataError, match="cannot be unpacked"):
            data.load(cut, tmp_path / "cache")
