"""Decoding: any picture becomes what the model expects, and nothing else gets through."""

import contextlib
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from backend.errors import BrokenImage, FileTooLarge, NotAnImage, TooManyPixels, UploadError
from backend.settings import Settings
from backend.uploads import decode, decode_small
from tests.conftest import SAMPLES

SETTINGS = Settings(database_url="postgresql://x", broker_url="amqp://x", max_image_pixels=4_000_000)  # pyright: ignore
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixel(data: bytes, x: int = 16, y: int = 16) -> tuple[int, ...]:
    pixels = decode(data, SETTINGS)
    assert len(pixels) == 32 * 32 * 3
    start = (y * 32 + x) * 3
    return tuple(pixels[start : start + 3])


def test_an_image_of_the_model_s_size_goes_through_unchanged() -> None:
    image = Image.radial_gradient("L").resize((32, 32)).convert("RGB")
    assert decode(encode(image), SETTINGS) == image.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_each_supported_format_is_decoded(kind: str) -> None:
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


def test_transparency_shows_white_and_not_what_was_hidden_behind_it() -> None:
    assert pixel(encode(Image.new("RGBA", (32, 32), (255, 0, 0, 0)))) == WHITE
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([255, 0, 0])
    assert pixel(encode(palette, "PNG", transparency=0)) == WHITE


def test_the_orientation_that_a_camera_noted_is_applied() -> None:
    image = Image.new("RGB", (64, 64), GREEN)
    image.paste(RED, (0, 0, 64, 32))  # red above; stored turned by a quarter
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(image, "JPEG", exif=exif, quality=95)
    right, left = pixel(data, 28, 16), pixel(data, 4, 16)
    assert right[0] > 200 > 50 > right[1]
    assert left[1] > 200 > 50 > left[0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "F", "I"])
def test_other_colour_modes_are_decoded(mode: str) -> None:
    kind = {"CMYK": "TIFF", "YCbCr": "TIFF", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    assert len(decode(encode(Image.new(mode, (40, 40)), kind), SETTINGS)) == 3072


def bomb() -> bytes:
    """A PNG header that promises 100,000 x 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + bytes(20)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (bomb, TooManyPixels),
        (lambda: encode(Image.new("1", (2001, 2000))), TooManyPixels),
        (lambda: b"GIF89a", (NotAnImage, BrokenImage)),
        (lambda: b"%PDF-1.7 hello", NotAnImage),
        (lambda: encode(Image.effect_noise((99, 99), 50))[:-2000], BrokenImage),
        (lambda: bytes(SETTINGS.max_upload_bytes + 1), FileTooLarge),
    ],
    ids=["bomb", "many pixels", "bare header", "pdf", "cut short", "too large"],
)
def test_what_is_no_usable_image_is_refused(
    make: Callable[[], bytes], error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    with pytest.raises(error):
        decode(make(), SETTINGS)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of damage before it raises
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_file_cut_or_damaged_anywhere_decodes_or_is_refused_and_never_raises_anything_else(
    kind: str,
) -> None:
    with Image.open(SAMPLES / "cat.jpg") as sample:
        whole = encode(sample.convert("RGB"), kind)
    step = max(1, len(whole) // 60)
    for place in range(0, len(whole), step):
        for data in (whole[:place], whole[:place] + b"\xff\x00\xfe" + whole[place + 3 :]):
            with contextlib.suppress(UploadError):
                assert len(decode(data, SETTINGS)) == 3072


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_small_image_decodes_at_once_to_the_same_pixels(kind: str) -> None:
    data = encode(Image.new("RGB", (36, 36), "teal"), kind)
    assert decode_small(data, SETTINGS) == decode(data, SETTINGS)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_a_small_image_that_could_take_more_memory_than_it_says_is_left_to_a_thread(kind: str) -> None:
    data = encode(Image.new("L", (32, 32)), kind)
    assert decode_small(data, SETTINGS) is None
    assert len(decode(data, SETTINGS)) == 3072


@pytest.mark.parametrize("stricter", [{"max_image_pixels": 1024}, {"max_upload_bytes": 1024}])
def test_a_stricter_limit_holds_for_small_images_too(stricter: dict[str, int]) -> None:
    settings = Settings.model_validate(SETTINGS.model_dump() | stricter)
    data = encode(Image.effect_noise((36, 36), 90).convert("L"))
    assert len(data) > 1024
    assert decode_small(data, SETTINGS) is not None
    assert decode_small(data, settings) is None
    with pytest.raises((TooManyPixels, FileTooLarge)):
        decode(data, settings)


@pytest.mark.parametrize(
    "data",
    [
        encode(Image.new("1", (1000, 1000))),  # few bytes, many pixels
        encode(Image.effect_noise((60, 60), 90).convert("RGB"), "BMP"),  # few pixels, many bytes
        b"not an image",
        b"",
    ],
    ids=["pixels", "bytes", "text", "nothing"],
)
def test_whatever_may_take_longer_is_left_to_a_thread(data: bytes) -> None:
    assert decode_small(data, SETTINGS) is None
