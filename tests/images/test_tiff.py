"""TIFF: each variant is decoded correctly or named in the refusal, and the limits on strips hold."""

import struct
import warnings
import zlib

import numpy as np
import pytest

from images.decode import decode
from images.errors import DamagedImage, ImageError, TooComplex, TooManyPixels, UnsupportedVariant
from tests.images.files import SIDE, Samples, directory, few_values, tiff

# Keywords of `tiff` are tags: 256 width, 257 height, 258 bits, 259 compression (1 none, 7 JPEG, 8 Deflate),
# 262 photometric interpretation, 266 fill order, 273 strip offsets, 277 samples a pixel, 278 rows in a strip,
# 279 strip sizes, 284 planes, 317 predictor, 338 extra samples, 339 kind of number (1 unsigned, 2 signed,
# 3 float, 6 complex), 529 to 532 only for YCbCr.
# `tiff` takes the samples, the bits and the photometric interpretation: 0 is grey with black as
# the highest value, 1 grey with white as the highest value, 2 RGB, 3 a palette, 6 YCbCr.
LIMIT = 4_000_000  # pixels
FLOATS = np.linspace(-5, 300, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
RAMP = np.round(np.linspace(0, 255, SIDE * SIDE)).astype(int)


def seen(data: bytes) -> Samples:
    return np.frombuffer(decode(data, LIMIT), np.uint8).reshape(SIDE, SIDE, 3).astype(int)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", "<>")
def test_floats_are_stretched_from_the_darkest_to_the_brightest(order: str, compression: int) -> None:
    bright = seen(tiff(FLOATS, 32, 1, order, t259=(compression,)))
    assert int(abs(bright.reshape(-1, 3) - RAMP[:, None]).max()) <= 1
    dark = seen(tiff(FLOATS, 32, 0, order, t259=(compression,)))
    assert int(abs(dark + bright - 255).max()) <= 1


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("bits", "kind"), [(32, 1), (32, 2), (16, 2), (8, 2)])
def test_integers_without_a_defined_white_are_stretched_from_the_darkest_to_the_brightest(
    bits: int, kind: int, order: str, compression: int
) -> None:
    lowest = 0 if kind == 1 else 2**bits - 2 ** (bits - 1)  # in two's complement
    numbers = (RAMP.reshape(SIDE, SIDE) * (2**bits - 1) // 255 + lowest) % 2**bits
    bright = seen(tiff(numbers, bits, 1, order, t259=(compression,), t339=(kind,)))
    assert int(abs(bright.reshape(-1, 3) - RAMP[:, None]).max()) <= 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [12, 16])
def test_half_of_white_is_grey_at_12_and_16_bits(bits: int, order: str) -> None:
    half = np.full((SIDE, SIDE), 2 ** (bits - 1))
    for photometric in (0, 1):
        assert int(abs(seen(tiff(half, bits, photometric, order)) - 127.5).max()) <= 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("luma", "seen_as"), [(16, 0), (235, 255)])
def test_black_and_white_of_a_ycbcr_tiff_are_those_of_its_tags(order: str, luma: int, seen_as: int) -> None:
    samples = np.full((SIDE, SIDE, 3), (luma, 128, 128))
    limits = tuple(part for value in (16, 235, 128, 240, 128, 240) for part in (value, 1))
    data = tiff(samples, 8, 6, order, t259=(8,), t530=(1, 1), t532=limits)
    assert int(abs(seen(data) - seen_as).max()) <= 1


@pytest.mark.parametrize("order", "<>")
def test_the_coefficients_of_a_ycbcr_tiff_are_used(order: str) -> None:
    samples = np.full((SIDE, SIDE, 3), (100, 128, 188))
    usual = tiff(samples, 8, 6, order, t259=(8,), t530=(1, 1))
    hdtv = tiff(samples, 8, 6, order, t259=(8,), t530=(1, 1), t529=(2126, 10000, 7152, 10000, 722, 10000))
    # Red is luma + (2 - 2 * the coefficient of red) * (188 - 128).
    assert abs(seen(usual)[0, 0, 0] - (100 + 1.402 * 60)) <= 1
    assert abs(seen(hdtv)[0, 0, 0] - (100 + 1.5748 * 60)) <= 1


NAMED = {
    "64-bit float": (tiff(FLOATS.astype(np.float64), 64, 1), "1 sample of 64 bits .floating-point"),
    "half float": (tiff(FLOATS.astype(np.float16), 16, 1), "1 sample of 16 bits .floating-point"),
    "float RGB": (tiff(few_values(9, 3).astype(np.float32), 32, 2), "3 samples of 32 bits .floating-point"),
    "32-bit RGB": (tiff(few_values(9, 3), 32, 2), "3 samples of 32 bits .unsigned"),
    "grey and alpha 16": (tiff(few_values(9, 2), 16, 1, t338=(2,)), "2 samples of 16 bits"),
    "RGB and two more 16": (tiff(few_values(9, 5), 16, 2, t338=(0, 0)), "5 samples of 16 bits"),
    "seven samples": (tiff(few_values(9, 7), 8, 2, t338=(0, 0, 0, 0)), "7 samples of 8 bits"),
    "planes 16": (tiff(few_values(9, 3), 16, 2, t284=(2,)), "16 bits with a plane for each colour"),
    "Lab": (tiff(few_values(255, 3), 8, 8), "Lab colours"),
    "ICC Lab": (tiff(few_values(255, 3), 8, 9), "Lab colours"),
    "raw sensor": (tiff(few_values(255), 8, 32803), "raw sensor data"),
    "LogLuv": (tiff(few_values(255, 3), 8, 32845), "kind 32845"),
    "subsampled": (tiff(few_values(255, 3), 8, 6), "subsampled"),
    "old JPEG": (tiff(few_values(255, 3), 8, 6, t259=(6,)), "old-style JPEG"),
    "JPEG 2000": (tiff(few_values(255, 3), 8, 2, t259=(34712,)), "34712"),
    "WebP in TIFF": (tiff(few_values(255, 3), 8, 2, t259=(50001,)), "50001"),
    "565": (tiff(few_values(9, 3), 8, 2, t258=(5, 6, 5)), "5/6"),
    "24 bits": (tiff(few_values(255), 8, 1, t258=(24,)), "1 sample of 24 bits"),
    "complex": (tiff(few_values(9), 32, 1, t339=(6,)), "complex"),
}


@pytest.mark.parametrize("name", NAMED)
def test_an_unsupported_tiff_variant_is_named_in_the_refusal(name: str) -> None:
    data, words = NAMED[name]
    with pytest.raises(UnsupportedVariant, match=f"TIFF .*{words}.*save it as"):
        decode(data, LIMIT)


@pytest.mark.parametrize("place", [0, 500])
def test_a_nan_is_black_or_refused_and_an_infinite_value_is_refused(place: int) -> None:
    floats = FLOATS.copy()
    floats.reshape(-1)[place] = np.nan
    if place:  # Pillow finds the range of the values unless the first one is NaN
        expected = np.where(np.arange(len(RAMP)) == place, 0, RAMP)
        assert int(abs(seen(tiff(floats, 32, 1)).reshape(-1, 3) - expected[:, None]).max()) <= 1
    else:
        with pytest.raises(UnsupportedVariant, match="not a number"):
            decode(tiff(floats, 32, 1), LIMIT)
    floats.reshape(-1)[place] = np.inf
    with pytest.raises(UnsupportedVariant, match="infinite"):
        decode(tiff(floats, 32, 1), LIMIT)


def test_a_tag_with_too_many_values_raises_no_warning() -> None:
    data = tiff(few_values(255), 8, 1, t277=(1, 1, 1), t317=(1, 1), t266=(1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(decode(data, LIMIT)) == 3072


def strips(count: int, shared: bytes, *, compression: int, width: int = 64) -> bytes:
    """A TIFF of `count` strips of one row, which all share the same bytes."""
    tags: dict[int, tuple[int, ...]] = {
        256: (width,), 257: (count,), 258: (8,), 259: (compression,), 262: (1,), 273: (8,) * count, 277: (1,),
        278: (1,), 279: (len(shared),) * count,
    }  # fmt: skip
    start = 8 + len(shared)
    return struct.pack("<2sHI", b"II", 42, start) + shared + directory(tags, "<", start)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (strips(50_000, zlib.compress(bytes(64)) + bytes(50_000), compression=8), TooComplex),
        (strips(70_000, bytes(64), compression=1, width=32), TooComplex),
        (tiff(few_values(9), 8, 1, t257=(LIMIT,)), TooManyPixels),
        (tiff(few_values(9), 8, 1, t257=(64,), t278=(SIDE,)), DamagedImage),
        (tiff(few_values(9), 8, 3), DamagedImage),
        (tiff(few_values(9), 8, 1, t259=(8,), t279=()), DamagedImage),
        (tiff(few_values(9), 8, 1)[:40], DamagedImage),
        (b"II*\0\x08\0\0\0", DamagedImage),
        (b"MM\0+" + bytes(4) + b"\xff" * 8, DamagedImage),
    ],
    ids=[
        "shared bytes",
        "many strips",
        "large",
        "lacks a strip",
        "no palette",
        "no sizes",
        "cut",
        "no directory",
        "directory beyond the end",
    ],
)
def test_an_unreadable_tiff_is_refused_with_its_reason(data: bytes, error: type[ImageError]) -> None:
    with pytest.raises(error):
        decode(data, LIMIT)


def test_a_tiff_holding_a_jpeg_with_many_scans_is_refused() -> None:
    with pytest.raises(TooComplex, match="scans"):
        decode(strips(1, b"\xff\xd8" + b"\xff\xda" * 30, compression=7), LIMIT)
