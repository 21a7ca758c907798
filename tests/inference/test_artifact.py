"""Files of an artifact that are broken or malicious are refused with a reason."""

import io
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import artifact
from inference.errors import ArtifactError
from tests.inference.artifacts import CLASSES, make_check, publish


def assert_refused(folder: Path, words: str) -> None:
    with pytest.raises(ArtifactError, match=words) as refusal:
        artifact.read(folder)
    assert len(str(refusal.value)) < 500
    assert str(folder) not in str(refusal.value)  # the API shows the reason, which must not contain paths


def test_an_artifact_is_read_with_unknown_fields_of_its_card(tmp_path: Path) -> None:
    found = artifact.read(publish(tmp_path, int8=b"int8", note="for people"))
    assert found.card.classes == CLASSES
    assert found.fields["note"] == "for people"
    assert found.int8 == b"int8"
    assert found.check.images.shape == (4, 32, 32, 3)


def test_the_name_of_a_class_may_contain_joiners(tmp_path: Path) -> None:
    names = ["\u0645\u06cc\u200c\u0634\u0628", "\U0001f468\u200d\U0001f469", "cat"]  # Persian, emoji
    assert artifact.read(publish(tmp_path, classes=names)).card.classes == names


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": "v2"}, "version of the card is 'v2'"),
        ({"format": "layers/2"}, "format of the card.*onnx/1"),
        ({"format": {}}, "format of the card"),
        ({"files": None}, "files of the card"),
        ({"files": {}}, r"files.model.onnx of the card"),
        ({"files": {"model.onnx": {"sha256": "0" * 64}}}, "model.onnx.*SHA-256 differs"),
        ({"files": {"model.onnx": {"sha256": 1}}}, "files.model.onnx.sha256 of the card"),
        ({"classes": []}, "classes of the card"),
        ({"classes": None}, "classes of the card"),
        ({"classes": "cat"}, "classes of the card"),
        ({"classes": ["cat", "cat", "dog"]}, "classes of the card.*the same"),
        ({"classes": ["cat", " ", "dog"]}, "classes of the card"),
        ({"classes": ["cat", "nul\0", "dog"]}, "classes of the card"),
        ({"classes": ["cat", "\u200d", "dog"]}, "classes of the card"),
        ({"classes": ["cat", "a\u202eb", "dog"]}, "classes of the card"),
        ({"classes": ["cat", "\ud800", "dog"]}, "classes"),
        ({"classes": ["cat", "x" * 101, "dog"]}, "classes of the card"),
        ({"classes": ["cat", 7, "dog"]}, "classes.1 of the card"),
        ({"classes": [f"{n}" for n in range(1001)]}, "classes of the card"),
        ({"classes": ["cat", "dog"]}, r"probabilities of check.npz is .*\(4, 3\), not .*\(4, 2\)"),
        ({"input_size": 64}, "input_size of the card.*32"),
        ({"activation": "sometimes"}, "activation of the card.*'better', 'always' or 'never'"),
        ({"activation": ["always"]}, "activation of the card"),
        ({"accuracy": 1.5}, "accuracy of the card"),
        ({"accuracy": True}, "accuracy of the card"),
        ({"accuracy": "0.9"}, "accuracy of the card"),
        ({"accuracy": 10**400}, "accuracy of the card|not JSON"),
        ({"unfamiliar": {"energy_threshold": "low"}}, "unfamiliar.energy_threshold"),
        ({"unfamiliar": {}}, "unfamiliar.energy_threshold"),
        ({"unfamiliar": []}, "unfamiliar of the card"),
        ({"data": "CIFAR-10"}, "data of the card"),
    ],
    ids=str,
)
def test_a_card_with_a_wrong_field_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert_refused(publish(tmp_path, **changes), words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds 0 bytes"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"accuracy": NaN}', "NaN"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (artifact.MAX_CARD_BYTES + 1), "bytes"),
        (b"[" + b"[]," * artifact.MAX_CARD_PARTS + b"[]]", "more than 100,000 lists"),
    ],
    ids=["empty", "cut", "not UTF-8", "a list", "NaN", "deep", "large", "many lists"],
)
def test_a_file_that_is_not_a_card_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    folder = publish(tmp_path)
    (folder / "card.json").write_bytes(content)
    assert_refused(folder, words)


def pickled() -> bytes:
    file = io.BytesIO()
    np.savez(file, images=np.array([{}], object), probabilities=np.zeros(1), energy=np.zeros(1))
    return file.getvalue()


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", bytes(64 * 2**20))
    return file.getvalue()


def zipped(images: bytes) -> bytes:
    """A check.npz whose images.npy holds these bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images.npy", images)
        for name in ("probabilities", "energy"):
            archive.writestr(f"{name}.npy", zipfile.ZipFile(io.BytesIO(make_check())).read(f"{name}.npy"))
    return file.getvalue()


def with_header(text: str) -> bytes:
    """An .npy file with this header and no array."""
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


def with_byte(offset: int, value: int) -> bytes:
    """A check.npz with one byte changed in each entry of the zip's directory."""
    content = bytearray(make_check())
    for entry in re.finditer(b"PK\1\2", bytes(content)):
        content[entry.start() + offset] = value
    return bytes(content)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (b"x", "reference arrays"),
        (make_check()[:-30], "reference arrays"),
        (pickled(), "reference arrays.*allow_pickle"),
        (zip_bomb(), "unpacks to"),
        (make_check(images=np.zeros((4, 32, 32, 3), np.float32)), "images of check.npz is float32"),
        (make_check(images=np.zeros((4, 64, 64, 3), np.uint8)), "images of check.npz is uint8"),
        (make_check(images=np.array(1, np.uint8)), "images of check.npz is uint8"),
        (make_check(energy=np.zeros(5, np.float32)), "energy of check.npz"),
        (
            make_check(
                images=np.zeros((0, 32, 32, 3), np.uint8),
                probabilities=np.zeros((0, 3), np.float32),
                energy=np.zeros(0, np.float32),
            ),
            "holds 0 images",
        ),
        (make_check(probabilities=np.full((4, 3), np.nan, np.float32)), "not finite"),
        (make_check(energy=np.full(4, np.inf, np.float32)), "not finite"),
        (zipped(b"hello"), "images of check.npz is"),
        (zipped(with_header("{'descr': ((((, 'shape': (4\n")), "reference arrays"),
        (zipped(with_header("-" * 5000 + "1")), "reference arrays"),
        (zipped(with_header("{'descr': (), 'fortran_order': False, 'shape': (4,)}")), "reference arrays"),
        (zipped(with_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**70},)}}")), "arrays"),
        (with_byte(6, 99), "reference arrays"),
        (with_byte(8, 1), "reference arrays.*(encrypted|differ)"),
        (with_byte(10, 77), "reference arrays"),
    ],
    ids=[
        "text", "cut", "pickle", "bomb", "floats", "64 pixels", "scalar", "5 energies", "no images", "NaN",
        "infinite", "no array", "open brackets", "deep", "no type", "endless", "zip version 9.9", "encrypted",
        "unknown compression",
    ],
)  # fmt: skip
def test_wrong_reference_arrays_are_refused(check: bytes, words: str, tmp_path: Path) -> None:
    assert_refused(publish(tmp_path, check=check), words)


def make_huge(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(2**40)  # sparse: takes no space on the disk


@pytest.mark.parametrize("file", ["model.onnx", "card.json", "check.npz"])
def test_a_file_that_is_too_large_is_not_read(file: str, tmp_path: Path) -> None:
    folder = publish(tmp_path)
    make_huge(folder / file)
    assert_refused(folder, "bytes")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda file: file.write_bytes(b"other"), "SHA-256 differs"),
        (lambda file: file.unlink(), "cannot be read: No such file"),
        (make_huge, "bytes"),
    ],
    ids=["changed", "gone", "huge"],
)
def test_an_artifact_with_a_broken_int8_file_is_read_without_its_int8_model(
    break_it: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    folder = publish(tmp_path, int8=b"int8")
    break_it(folder / "model.int8.onnx")
    found = artifact.read(folder)
    assert isinstance(found.int8, ArtifactError)
    assert words in str(found.int8)


def test_links_and_special_files_are_refused(tmp_path: Path) -> None:
    whole = publish(tmp_path, "whole")
    for name in ("card.json", "model.onnx", "check.npz"):
        folder = publish(tmp_path, f"linked-{name}", version=f"linked-{name}")
        (folder / name).rename(tmp_path / name)
        assert_refused(folder, f"{name} cannot be read: No such file")
        (folder / name).symlink_to(tmp_path / name)
        assert_refused(folder, f"{name} is a link")
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")
        assert_refused(folder, f"{name} is a link")
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert_refused(folder, f"{name} is not a file")
        (folder / name).unlink()
        (folder / name).mkdir()
        assert_refused(folder, f"{name} is not a file")
    (tmp_path / "link").symlink_to(whole)
    assert_refused(tmp_path / "link", "the version is a link")
    assert_refused(tmp_path / "missing", "the version cannot be read")


def test_only_folders_and_links_with_a_valid_name_are_listed(tmp_path: Path) -> None:
    for name in ("2026-01-02-abc", ".partial-1", ".runs", "a b", "x" * 101, "-x", "é"):
        (tmp_path / name).mkdir()
    (tmp_path / "active").write_text("2026-01-02-abc\n")
    (tmp_path / "link").symlink_to("2026-01-02-abc")
    (tmp_path / "line\n").mkdir()
    assert artifact.list_versions(tmp_path) == ["2026-01-02-abc", "link"]
