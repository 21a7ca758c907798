"""PNG: optional (ancillary) chunks are skipped if damaged or not needed. Unreadable files are refused."""

import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from images.decode import decode
from images.errors import DamagedImage, ImageError, TooComplex, TooManyPixels, UnsupportedVariant
from tests.images.files import chunk, encode, few_values, png

MAX_PIXELS = 4_000_000
PIXELS = few_values(255, 3)
EXPECTED = PIXELS.astype("uint8").tobytes()
MEGABYTES = zlib.compress(bytes(3_000_000))

SKIPPED = {
    "text of 3 MB": chunk(b"zTXt", b"Comment\0\0" + MEGABYTES),
    "international text of 3 MB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + MEGABYTES),
    "profile of 3 MB": chunk(b"iCCP", b"profile\0\0" + MEGABYTES),
    "profile that cannot be unpacked": chunk(b"iCCP", b"profile\0\0nothing"),
    "profile of another compression": chunk(b"iCCP", b"profile\0\7" + MEGABYTES),
    "profile without an end to its name": chunk(b"iCCP", b"profile"),
    "text of another compression": chunk(b"zTXt", b"Comment\0\7" + MEGABYTES),
    "many texts": chunk(b"zTXt", b"Comment\0\0" + MEGABYTES) * 40,
    "short gamma": chunk(b"gAMA", b"\1"),
    "short chromaticities": chunk(b"cHRM", b"\1"),
    "short rendering intent": chunk(b"sRGB", b""),
    "short resolution": chunk(b"pHYs", b"\0"),
    "short transparency": chunk(b"tRNS", b"\0"),
    "damaged EXIF": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "animation out of order": chunk(b"acTL", bytes(8)) + chunk(b"fcTL", bytes(26)),
    "short animation": chunk(b"acTL", b"\0") + chunk(b"fcTL", b"\0"),
    "EXIF as a text that is not hexadecimal": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nzzzz"),
    "private chunk whose name has bytes that are not letters": chunk(b"a\xff1\0", b"x"),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_an_optional_chunk_that_is_damaged_or_not_needed_is_skipped(name: str) -> None:
    assert decode(png(PIXELS, 8, 2, SKIPPED[name]), MAX_PIXELS) == EXPECTED
    assert decode(png(PIXELS, 8, 2, after=SKIPPED[name]), MAX_PIXELS) == EXPECTED


@pytest.mark.parametrize(
    "name",
    [
        b"gAMA",
        b"tEXt",
        b"zTXt",
        b"iTXt",
        b"iCCP",
        b"cHRM",
        b"sRGB",
        b"pHYs",
        b"tRNS",
        b"tIME",
        b"eXIf",
        b"bKGD",
        b"sBIT",
    ],
)
def test_an_optional_chunk_may_have_a_wrong_checksum(name: bytes) -> None:
    wrong = chunk(name, bytes(8), checksum=1)
    assert decode(png(PIXELS, 8, 2, wrong), MAX_PIXELS) == EXPECTED
    assert decode(png(PIXELS, 8, 2, after=wrong), MAX_PIXELS) == EXPECTED


def test_pixels_in_many_chunks_are_decoded() -> None:
    whole = png(PIXELS, 8, 2)
    # Signature and header take 33 bytes, IDAT's length and name 8, its checksum 4, IEND 12.
    pixels = whole[41:-16]
    parts = b"".join(chunk(b"IDAT", pixels[at : at + 1]) for at in range(len(pixels)))
    assert decode(whole[:33] + parts + whole[-12:], MAX_PIXELS) == EXPECTED


def test_an_image_without_its_end_chunk_is_decoded() -> None:
    assert decode(png(PIXELS, 8, 2)[:-12], MAX_PIXELS) == EXPECTED


def damage(place: int, with_: bytes) -> Callable[[], bytes]:
    return lambda: (data := png(PIXELS, 8, 2))[:place] + with_ + data[place + len(with_) :]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (damage(29, b"\0\0\0\0"), DamagedImage),  # the header's checksum
        (damage(12, b"IXXX"), DamagedImage),
        (lambda: png(PIXELS, 4, 2), DamagedImage),
        (lambda: png(few_values(255), 8, 3), DamagedImage),
        (lambda: png(few_values(255), 8, 3, chunk(b"PLTE", bytes(9), checksum=1)), DamagedImage),
        (lambda: png(PIXELS, 8, 2)[:33] + chunk(b"IEND", b""), DamagedImage),
        (lambda: png(PIXELS, 8, 2)[:-600], DamagedImage),
        (
            lambda: png(PIXELS, 8, 2)[:8] + chunk(b"CgBI", bytes(4)) + png(PIXELS, 8, 2)[8:],
            UnsupportedVariant,
        ),
        (lambda: png(PIXELS, 8, 2, chunk(b"tEXt", b"") * 100_001), TooComplex),
        (lambda: encode(Image.new("1", (2001, 2000))), TooManyPixels),
    ],
    ids=[
        "wrong checksum of the header",
        "no header",
        "four bits a sample in RGB",
        "no palette",
        "wrong checksum of the palette",
        "no pixels",
        "cut",
        "CgBI",
        "many chunks",
        "too many pixels",
    ],
)
def test_an_unreadable_png_is_refused_with_its_reason(
    make: Callable[[], bytes], error: type[ImageError]
) -> None:
    with pytest.raises(error):
        decode(make(), MAX_PIXELS)
