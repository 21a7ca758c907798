"""Uploads become pixels or errors. tests/images tests decoding."""

import math
from collections.abc import AsyncGenerator, Callable

import numpy as np
import pytest
from PIL import Image

from backend.decoders import Decoders
from backend.errors import FileRefused, Refusal
from backend.settings import Settings
from backend.uploads import REFUSALS, decode_file, decode_small
from images.decode import decode
from images.errors import ImageError
from tests.images.files import encode, few_values, tiff
from tests.images.test_crafted import OVERSIZED, gif, webp

SETTINGS = Settings(database_url="postgresql://x", broker_url="amqp://x", max_image_pixels=4_000_000)  # pyright: ignore


@pytest.fixture
async def decoders() -> AsyncGenerator[Decoders]:
    decoders = Decoders(SETTINGS.max_image_pixels, SETTINGS.max_decode_seconds)
    await decoders.start()
    yield decoders
    await decoders.stop()


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (lambda: b"", Refusal.EMPTY_FILE),
        (lambda: b"%PDF-1.7 hello", Refusal.NOT_AN_IMAGE),
        (lambda: encode(Image.new("1", (2001, 2000))), Refusal.TOO_MANY_PIXELS),
        (lambda: encode(Image.effect_noise((99, 99), 50))[:-2000], Refusal.DAMAGED_IMAGE),
        (lambda: tiff(few_values(1, 3).astype(np.float32), 32, 2), Refusal.UNSUPPORTED_VARIANT),
        (lambda: b"GIF89a" + bytes(7) + b"!\xfe" + b"\1a" * 200_000, Refusal.TOO_COSTLY),
    ],
    ids=["empty", "pdf", "many pixels", "cut short", "float", "many blocks"],
)
async def test_each_kind_of_refused_file_gets_its_own_refusal(
    make: Callable[[], bytes], refusal: Refusal, decoders: Decoders
) -> None:
    error = await decode_file(make(), SETTINGS, decoders, math.inf)
    assert isinstance(error, FileRefused)
    assert error.refusal is refusal
    assert error.detail


def test_every_error_of_the_decoder_has_a_refusal() -> None:
    assert set(ImageError.__subclasses__()) == set(REFUSALS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_small_image_decoded_without_a_process_has_the_same_pixels(kind: str) -> None:
    data = encode(Image.new("RGB", (36, 36), "teal"), kind)
    assert decode_small(data, SETTINGS) == decode(data, SETTINGS.max_image_pixels)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_a_small_image_of_another_format_is_left_to_a_process(kind: str) -> None:
    data = encode(Image.new("L", (32, 32)), kind)
    assert decode_small(data, SETTINGS) is None
    assert len(decode(data, SETTINGS.max_image_pixels)) == 3072


@pytest.mark.parametrize("stricter", [{"max_image_pixels": 1024}, {"max_upload_bytes": 1024}])
def test_a_stricter_limit_applies_to_small_images(stricter: dict[str, int]) -> None:
    settings = Settings.model_validate(SETTINGS.model_dump() | stricter)
    data = encode(Image.effect_noise((36, 36), 90).convert("L"))
    assert len(data) > 1024
    assert decode_small(data, SETTINGS) is not None
    assert decode_small(data, settings) is None


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
def test_a_file_that_is_not_a_small_image_is_not_decoded_in_the_backend(data: bytes) -> None:
    assert decode_small(data, SETTINGS) is None


@pytest.mark.parametrize(
    "data", [*(data for data, _ in OVERSIZED.values()), gif((1, 1), (0, 0, 65_535, 2_700)), webp(13_000)]
)
def test_a_file_that_needs_more_memory_than_its_size_suggests_is_left_to_a_process(data: bytes) -> None:
    assert decode_small(data, SETTINGS) is None
