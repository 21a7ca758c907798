"""HEIC and AVIF: brands, alpha, damaged files, and limits on pixels and tiles."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from images.decode import decode
from images.errors import DamagedImage, TooComplex, TooManyPixels, UnknownFormat, UnsupportedVariant
from tests.images.files import encode
from tests.images.heic import box, heic

LIMIT = 4_000_000


def test_a_heic_is_decoded() -> None:
    pixels = np.frombuffer(decode(heic(), LIMIT), np.uint8).reshape(32, 32, 3)
    assert tuple(pixels[0, 16] // 64) == (3, 0, 0)
    assert tuple(pixels[31, 16] // 64) == (0, 0, 3)


def test_a_heic_with_many_tiles_is_decoded() -> None:
    pixels = np.frombuffer(decode(heic(shown=(500, 500), tiles=(8, 8)), LIMIT), np.uint8)
    assert len(pixels) == 3072


@pytest.mark.parametrize("brand", [b"mif1", b"heix", b"msf1"])
def test_a_heic_with_another_brand_is_decoded(brand: bytes) -> None:
    data = heic()
    assert decode(data[:8] + brand + data[12:], LIMIT) == decode(data, LIMIT)


def test_an_avif_with_the_brand_mif1_is_decoded() -> None:
    data = encode(Image.new("RGB", (40, 40), "red"), "AVIF")
    assert decode(data[:8] + b"mif1" + data[12:], LIMIT)[0] > 240


@pytest.mark.parametrize(
    "data", [heic(shown=(2001, 2000)), encode(Image.new("L", (2001, 2000)), "AVIF", speed=10)]
)
def test_an_image_over_the_pixel_limit_is_refused(data: bytes) -> None:
    with pytest.raises(TooManyPixels):
        decode(data, LIMIT)


def test_an_image_whose_tiles_have_too_many_pixels_is_refused() -> None:
    """900 tiles of 64 x 64 pixels for an image of 40 x 24.

    All tiles together may have twice the limit of an image.
    """
    with pytest.raises(TooComplex, match="tiles"):
        decode(heic(tiles=(30, 30)), 1_000_000)
    assert len(decode(heic(tiles=(30, 30)), LIMIT)) == 3072


def test_an_image_with_nested_tiles_is_refused() -> None:
    """Item 1 is the image. Its only tile is item 2. In the changed file, item 1 is made of itself."""
    data = heic()
    link = struct.pack(">I4sHHH", 14, b"dimg", 1, 1, 2)
    with pytest.raises(TooComplex, match="consist of tiles"):
        decode(data.replace(link, struct.pack(">I4sHHH", 14, b"dimg", 1, 1, 1)), LIMIT)


def test_transparent_pixels_of_an_avif_become_white() -> None:
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert min(decode(encode(clear, "AVIF"), LIMIT)) >= 253


@pytest.mark.parametrize("make", [heic, lambda: encode(Image.new("RGB", (64, 64), "red"), "AVIF")])
def test_a_file_that_is_cut_short_is_refused(make: Callable[[], bytes]) -> None:
    data = make()
    for share in (0.1, 0.4, 0.7):
        with pytest.raises((DamagedImage, UnknownFormat)):
            decode(data[: int(share * len(data))], LIMIT)


def test_an_image_with_too_many_tiles_raises_an_image_error() -> None:
    """1,600 tiles; libheif reads at most 1,000 items."""
    with pytest.raises(DamagedImage, match="damaged"):
        decode(heic(tiles=(40, 40), shown=(1000, 1000)), LIMIT * 10)


def test_bytes_after_the_image_that_look_like_metadata_change_no_pixel() -> None:
    """Only an entry `infe` in the box `meta` is metadata."""
    data = heic()
    tail = b"infe\2\0\0\0\0\1\0\0Exif"
    assert decode(data + tail, LIMIT) == decode(data, LIMIT)


@pytest.mark.parametrize("brand", [b"hevc", b"avis"])
def test_a_sequence_without_a_still_image_is_refused_with_the_reason(brand: bytes) -> None:
    with pytest.raises(UnsupportedVariant, match="without a still image"):
        decode(box(b"ftyp", brand, bytes(4), brand) + box(b"moov", bytes(8)) + box(b"mdat", bytes(99)), LIMIT)
