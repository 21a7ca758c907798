"""Decoding: every supported image becomes the model's input, and every other file is refused."""

import contextlib
import logging
import struct
import warnings
from collections.abc import Callable

import pytest
from PIL import Image

from images import decode as decoder
from images.decode import FORMATS, decode
from images.errors import DamagedImage, ImageError, TooComplex, TooManyPixels, UnknownFormat
from tests.conftest import SAMPLES
from tests.images.files import chunk, encode, few_values, png

LIMIT = 4_000_000  # pixels
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def pixel(data: bytes, x: int = 16, y: int = 16) -> tuple[int, ...]:
    pixels = decode(data, LIMIT)
    assert len(pixels) == 32 * 32 * 3
    start = (y * 32 + x) * 3
    return tuple(pixels[start : start + 3])


def test_an_image_of_the_model_s_size_is_unchanged() -> None:
    image = Image.radial_gradient("L").resize((32, 32)).convert("RGB")
    assert decode(encode(image), LIMIT) == image.tobytes()


# The formats of uploads, except HEIC, which Pillow does not write: test_heif.py decodes it.
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_each_format_is_decoded(kind: str) -> None:
    red, green, blue = pixel(encode(Image.new("RGB", (50, 40), RED), kind))
    assert red > 240
    assert max(green, blue) < 20


def test_the_middle_square_is_kept() -> None:
    image = Image.new("RGB", (96, 32), GREEN)
    image.paste(RED, (32, 0, 64, 32))
    assert pixel(encode(image), 0, 0) == RED
    assert pixel(encode(image), 31, 31) == RED


def test_a_large_image_is_averaged_not_sampled() -> None:
    stripes = Image.new("L", (640, 640))
    stripes.putdata([255 * (x % 2) for _ in range(640) for x in range(640)])
    assert all(120 <= value <= 135 for value in pixel(encode(stripes)))


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    assert all(abs(value - 64) <= 1 for value in pixel(encode(Image.new("I;16", (32, 32), 64 * 256))))


def test_transparent_pixels_become_white_whatever_colour_they_hide() -> None:
    assert pixel(encode(Image.new("RGBA", (32, 32), (255, 0, 0, 0)))) == WHITE
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([255, 0, 0])
    assert pixel(encode(palette, "PNG", transparency=0)) == WHITE


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "F", "I"])
def test_other_colour_modes_are_decoded(mode: str) -> None:
    kind = {"CMYK": "TIFF", "YCbCr": "TIFF", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    assert len(decode(encode(Image.new(mode, (40, 40)), kind), LIMIT)) == 3072


def bomb() -> bytes:
    """A PNG header of 100,000 x 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(20))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (bomb, TooManyPixels),
        (lambda: encode(Image.new("1", (2001, 2000))), TooManyPixels),
        (lambda: b"GIF89a", DamagedImage),
        (lambda: b"%PDF-1.7 hello", UnknownFormat),
        (lambda: encode(Image.effect_noise((99, 99), 50))[:-2000], DamagedImage),
        (lambda: b"BM" + bytes(60), UnknownFormat),
    ],
    ids=["bomb", "many pixels", "bare header", "pdf", "cut short", "bare BM"],
)
def test_an_unusable_file_is_refused(make: Callable[[], bytes], error: type[ImageError]) -> None:
    with pytest.raises(error):
        decode(make(), LIMIT)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"\0\0\0\x18ftypcrx ", "raw photo"),
        (b"<svg xmlns=", "SVG"),
        (b"\xef\xbb\xbf\n<!-- a drawing -->\n<svg xmlns=", "SVG"),
        (b"<?xml version='1.0'?><svg xmlns=", "SVG"),
        (b"<?xml version='1.0'?><root>", "XML"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"\0\0\1\0\1\0", "an icon"),
        (b"\0\0\2\0\1\0", "a cursor"),
        (b"\0\0\2\0\0\0", "^The file is not JPEG"),  # a TGA
        (b"icns\0\0\1\0", "an icon"),
        (b"hello", "not JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF"),
    ],
)
def test_a_refusal_lists_the_supported_formats_and_names_a_known_unsupported_one(
    head: bytes, name: str
) -> None:
    with pytest.raises(UnknownFormat, match=f"{name}.*Convert it to one"):
        decode(head + bytes(99), LIMIT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_a_file_cut_or_damaged_anywhere_is_decoded_or_raises_image_error(
    kind: str,
) -> None:
    with Image.open(SAMPLES / "cat.jpg") as sample:
        whole = encode(sample.convert("RGB"), kind)
    step = max(1, len(whole) // 60)
    for place in range(0, len(whole), step):
        for data in (whole[:place], whole[:place] + b"\xff\x00\xfe" + whole[place + 3 :]):
            with contextlib.suppress(ImageError):
                assert len(decode(data, LIMIT, (*FORMATS, "PPM"))) == 3072


@pytest.mark.parametrize(
    "raised", [AssertionError("x"), TypeError("x"), AttributeError("x"), RecursionError()]
)
def test_an_unexpected_decoder_error_becomes_damaged_image_and_is_logged(
    raised: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_data: bytes, _max_pixels: int) -> None:
        raise raised

    monkeypatch.setitem(decoder.READERS, "PNG", fail)
    with caplog.at_level(logging.ERROR), pytest.raises(DamagedImage):
        decode(encode(Image.new("L", (9, 9))), LIMIT)
    (record,) = caplog.records
    assert record.exc_info and record.exc_info[1] is raised


def test_a_lack_of_memory_becomes_too_complex(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_data: bytes, _max_pixels: int) -> None:
        raise MemoryError

    monkeypatch.setitem(decoder.READERS, "PNG", fail)
    with pytest.raises(TooComplex, match="memory"):
        decode(encode(Image.new("L", (9, 9))), LIMIT)


def test_the_caller_s_pixel_limit_replaces_pillow_s_lower_one() -> None:
    # Pillow's own limits: a warning over 89 megapixels, an error over twice as many.
    data = encode(Image.new("1", (20_000, 10_000)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data, 200_000_000) == bytes(3072)
        with pytest.raises(TooManyPixels):
            decode(data, 199_999_999)


@pytest.mark.parametrize("size", [(8160, 6144), (8192, 6144), (9248, 6944)])
def test_phone_photos_of_50_and_64_megapixels_are_decoded(size: tuple[int, int]) -> None:
    from backend.settings import Settings

    limit = Settings.model_fields["max_image_pixels"].default
    red, green, blue = decode(encode(Image.new("RGB", size, RED), "JPEG"), limit)[:3]
    assert red > 240 > 20 > max(green, blue)


def test_a_palette_image_without_its_palette_is_refused() -> None:
    with pytest.raises(DamagedImage, match="palette"):
        decode(png(few_values(3), 8, 3), LIMIT)
