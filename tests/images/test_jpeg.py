"""JPEG: cut files, variants, and limits on scans and segments."""

import re

import pytest
from PIL import Image

from images.decode import decode
from images.errors import DamagedImage, TooComplex, UnsupportedVariant
from tests.conftest import SAMPLES
from tests.images.files import encode

LIMIT = 65_000_000
END = b"\xff\xd9"
KINDS = {
    "baseline": {}, "progressive": {"progressive": True}, "4:4:4": {"subsampling": 0},
    "restarts": {"restart_marker_blocks": 3}, "optimized": {"optimize": True},
}  # fmt: skip


def photo(mode: str = "RGB", size: tuple[int, int] = (320, 240)) -> Image.Image:
    with Image.open(SAMPLES / "cat.jpg") as image:
        return image.convert("RGB").resize(size).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_without_its_end_marker_is_decoded(kind: str, mode: str) -> None:
    for size in ((32, 32), (33, 47), (320, 240)):
        data = encode(photo(mode, size), "JPEG", **KINDS[kind])
        assert data.endswith(END)
        assert decode(data[:-2], LIMIT) == decode(data, LIMIT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_grey_jpeg_without_its_end_marker_is_decoded(mode: str, kind: str) -> None:
    """libjpeg fills missing blocks with this grey, so the image looks as if every block were missing."""
    data = encode(Image.new("RGB", (96, 64), (128, 128, 128)).convert(mode), "JPEG", **KINDS[kind])
    assert set(decode(data[:-2], LIMIT)) <= {127, 128, 129}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_without_its_last_bytes_is_decoded_and_one_without_a_large_part_is_refused(
    kind: str, mode: str
) -> None:
    data = encode(photo(mode), "JPEG", **KINDS[kind])
    whole = decode(data, LIMIT)
    for lost in (3, 10, 50, len(data) // 50):
        seen = decode(data[:-lost], LIMIT)
        assert sum(abs(a - b) for a, b in zip(seen, whole, strict=True)) / 3072 < 8
    start = data.index(b"\xff\xda")
    # The second half of a progressive photo's bytes only refines the image.
    for share in (0.0, 0.1, 0.2) if kind == "progressive" else (0.0, 0.1, 0.5, 0.7):
        with pytest.raises(DamagedImage, match="cut short"):
            decode(data[: start + int(share * (len(data) - start))], LIMIT)


def test_the_error_for_a_cut_jpeg_says_how_much_is_there() -> None:
    data = encode(photo(), "JPEG")
    with pytest.raises(DamagedImage, match=r"cut short: \d\d% of the image is there"):
        decode(data[: len(data) // 2], LIMIT)
    data = encode(photo(), "JPEG", progressive=True)
    with pytest.raises(DamagedImage, match=r"cut short: \d+% of its details are there"):
        decode(data[: len(data) // 4], LIMIT)


def test_data_after_the_image_is_skipped() -> None:
    data = encode(photo(), "JPEG")
    for after in (b"\0" * 99, data[:200], b"\xff\xd8\xff\xe1\xff\xff", b"ftypmp42"):
        assert decode(data + after, LIMIT) == decode(data, LIMIT)


@pytest.mark.parametrize(
    "segment",
    [
        b"\xff\xe0\0\5JFI",
        b"\xff\xe0\0\7JFIF\0",
        b"\xff\xed\0\x14Photoshop 3.0\0\1\1",
        b"\xff\xee\0\x07Adobe",
        b"\xff\xe2\0\6MPF\0",
        b"\xff\xe2\0\x10MPF\0II*\0\xff\xff\xff\xff",
        b"\xff\xe2\0\x0eICC_PROFILE\0",
        b"\xff\xfe\0\2",
    ],
)
def test_a_damaged_or_empty_segment_without_pixels_is_skipped(segment: bytes) -> None:
    data = encode(photo(), "JPEG")
    assert decode(data[:2] + segment + data[2:], LIMIT) == decode(data, LIMIT)


def repeat_last_scan(data: bytes, times: int) -> bytes:
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * times + END


def test_a_jpeg_with_many_scans_is_refused_unless_it_is_small() -> None:
    small = encode(photo(size=(64, 64)), "JPEG", progressive=True)
    assert len(decode(repeat_last_scan(small, 100), LIMIT)) == 3072
    large = encode(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    with pytest.raises(TooComplex, match="scans"):
        decode(repeat_last_scan(large, 100), LIMIT)


def test_a_progressive_jpeg_of_64_megapixels_with_the_usual_scans_is_decoded() -> None:
    data = encode(Image.new("RGB", (9248, 6944), "red"), "JPEG", progressive=True)
    assert len(re.findall(rb"\xff\xda", data)) >= 10
    assert decode(data, LIMIT)[0] > 240


def test_a_jpeg_with_very_many_segments_is_refused() -> None:
    data = encode(photo(), "JPEG")
    assert decode(data[:2] + b"\xff\xfe\0\2" * 5_000 + data[2:], LIMIT) == decode(data, LIMIT)
    with pytest.raises(TooComplex, match="segments"):
        decode(data[:2] + b"\xff\xfe\0\2" * 20_000 + data[2:], LIMIT)


@pytest.mark.parametrize(("place", "value", "name"), [(4, 12, "12-bit"), (1, 0xC6, "hierarchical")])
def test_an_unsupported_jpeg_variant_is_named_in_the_refusal(place: int, value: int, name: str) -> None:
    data = bytearray(encode(photo(), "JPEG"))
    data[data.index(b"\xff\xc0") + place] = value
    with pytest.raises(UnsupportedVariant, match=name):
        decode(bytes(data), LIMIT)


def test_a_progressive_jpeg_that_lacks_its_first_scan_and_a_huffman_table_is_refused() -> None:
    """The second scan, which holds only brightness, is kept without its table."""
    data = encode(photo(), "JPEG", progressive=True)
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    second = next(at for at in scans if data[at + 4] == 1 and data[at + 5] == 1)
    rest = data[: scans[0]] + data[second:]
    with pytest.raises(DamagedImage, match=r"cut short|damaged"):
        decode(rest[:-2], LIMIT)
