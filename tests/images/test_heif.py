"""HEIC and AVIF: sizes, depth, alpha, and limits on tiles."""

import re
import struct

import numpy as np
import pytest
from PIL import Image

from images.decode import decode
from images.errors import DamagedImage, TooComplex, TooManyPixels, UnknownFormat
from tests.images.files import encode
from tests.images.heic import heic

LIMIT = 4_000_000


def test_a_heic_is_decoded() -> None:
    pixels = np.frombuffer(decode(heic(), LIMIT), np.uint8).reshape(32, 32, 3)
    assert tuple(pixels[0, 16] // 64) == (3, 0, 0)
    assert tuple(pixels[31, 16] // 64) == (0, 0, 3)


def test_a_heic_of_many_tiles_is_decoded() -> None:
    pixels = np.frombuffer(decode(heic(shown=(500, 500), tiles=(8, 8)), LIMIT), np.uint8)
    assert len(pixels) == 3072


@pytest.mark.parametrize("brand", [b"mif1", b"heix", b"msf1"])
def test_a_heic_is_known_by_any_of_its_brands(brand: bytes) -> None:
    data = heic()
    assert decode(data[:8] + brand + data[12:], LIMIT) == decode(data, LIMIT)


def test_an_avif_that_has_the_brand_of_both_is_decoded() -> None:
    data = encode(Image.new("RGB", (40, 40), "red"), "AVIF")
    assert decode(data[:8] + b"mif1" + data[12:], LIMIT)[0] > 240


@pytest.mark.parametrize(
    "data", [heic(shown=(2001, 2000)), encode(Image.new("L", (2001, 2000)), "AVIF", speed=10)]
)
def test_an_image_over_the_limit_is_refused_before_it_is_decoded(data: bytes) -> None:
    with pytest.raises(TooManyPixels):
        decode(data, LIMIT)


def test_tiles_that_are_hardly_shown_are_refused() -> None:
    """900 tiles of 64 x 64 pixels for an image of 40 x 24."""
    with pytest.raises(TooComplex, match="tiles"):
        decode(heic(tiles=(30, 30)), 1_000_000)
    assert len(decode(heic(tiles=(30, 30)), LIMIT)) == 3072


def test_an_image_of_images_of_images_is_refused() -> None:
    data = heic()
    link = struct.pack(">I4sHHH", 14, b"dimg", 1, 1, 2)
    with pytest.raises(TooComplex, match="more than one step"):
        decode(data.replace(link, struct.pack(">I4sHHH", 14, b"dimg", 1, 1, 1)), LIMIT)


def test_transparency_of_an_avif_shows_white() -> None:
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert min(decode(encode(clear, "AVIF"), LIMIT)) >= 253


@pytest.mark.parametrize("make", [heic, lambda: encode(Image.new("RGB", (64, 64), "red"), "AVIF")])
def test_a_file_that_is_cut_short_is_refused(make: type[bytes]) -> None:
    data = bytes(make())
    for share in (0.1, 0.4, 0.7):
        with pytest.raises((DamagedImage, UnknownFormat)):
            decode(data[: int(share * len(data))], LIMIT)


def test_more_references_than_a_decoder_takes_are_a_refusal_in_words() -> None:
    with pytest.raises(DamagedImage, match=r"larger than its format allows|damaged"):
        decode(heic(tiles=(40, 40), shown=(1000, 1000)), LIMIT * 10)


def test_a_box_of_metadata_is_hidden_without_a_change_of_pixels() -> None:
    """`infe` and `Exif` may also be bytes of pixels."""
    data = heic()
    tail = b"infe\2\0\0\0\0\1\0\0Exif"
    assert decode(data + tail, LIMIT) == decode(data, LIMIT)
    assert re.search(rb"Exif$", data + tail)
