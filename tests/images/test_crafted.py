"""Crafted files that need far more memory than their size suggests are refused; similar ones are decoded."""

import contextlib
import pickle
import struct
import subprocess
import sys
import zlib
from io import BytesIO

import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from images.decode import decode
from images.errors import DamagedImage, ImageError, TooManyPixels
from tests.images import files
from tests.images.files import encode
from tests.images.test_decode import LIMIT, RED, pixel

DEFLATE, SHORT, LONG, SLONG8 = 8, 3, 4, 17
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, SPP, ROWS = 256, 257, 258, 259, 262, 277, 278
STRIPS, STRIP_BYTES, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 273, 279, 322, 323, 324, 325
Tags = list[tuple[int, int, int]]
HUGE = 45_008  # pixels a side: such a tile has 2.03 GB, and libtiff's limit is 2 GiB (2.15 GB)


def tiff(tags: Tags, places: tuple[int, int] = (TILES, TILE_BYTES), *, big: bool = False) -> bytes:
    """A grey 64 x 64 TIFF of one deflated block with these extra tags (tag, type, value).

    `places`: the tags for the position and the length of the block. A value that does not fit in its entry is
    at the end of the file.
    """
    block = zlib.compress(bytes(64 * 64))
    head, count, entry, room = ("<2sHHHQ", "<Q", "<HHQ", 8) if big else ("<2sHL", "<H", "<HHL", 4)
    start = struct.calcsize(head)
    common = [(WIDTH, SHORT, 64), (LENGTH, SHORT, 64), (BITS, SHORT, 8), (COMPRESSION, SHORT, DEFLATE)]
    common += [(PHOTOMETRIC, SHORT, 1)]
    size = struct.calcsize(entry) + room
    data_at = start + struct.calcsize(count) + (len(common) + len(tags) + 2) * size + room
    every = [*common, *tags, (places[0], LONG, data_at), (places[1], LONG, len(block))]
    body, tail = struct.pack(count, len(every)), block
    for tag, kind, value in every:
        given = value.to_bytes({SHORT: 2, LONG: 4, SLONG8: 8}[kind], "little")
        if len(given) > room:
            given, tail = (data_at + len(tail)).to_bytes(room, "little"), tail + given
        body += struct.pack(entry, tag, kind, 1) + given.ljust(room, b"\0")
    fixed = (b"II", 43, 8, 0, start) if big else (b"II", 42, start)
    return struct.pack(head, *fixed) + body + bytes(room) + tail


def tiles(width: int, length: int, kind: int = LONG) -> Tags:
    return [(TILE_WIDTH, kind, width), (TILE_LENGTH, kind, length)]


def strip(rows: int) -> bytes:
    return tiff([(ROWS, LONG, rows)], (STRIPS, STRIP_BYTES))


MEASURE = r"""
import contextlib, pickle, re, sys
from pathlib import Path
from images.decode import decode
from images.errors import ImageError
files = pickle.load(sys.stdin.buffer)
def read_peak():  # getrusage would count the parent's memory, too
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
before = read_peak()
for file in files:
    with contextlib.suppress(ImageError):
        decode(file, 4_000_000)
print(read_peak() - before)
"""


def peak_bytes(*contents: bytes) -> int:
    """How much the peak memory of a new process grows while it decodes the files.

    The process is new, because the peak of a process never falls.
    """
    given = pickle.dumps(contents)
    done = subprocess.run([sys.executable, "-c", MEASURE], input=given, stdout=subprocess.PIPE, check=True)
    return int(done.stdout) * 1024


@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_tiff_with_ordinary_tiles_is_decoded(orientation: int, *, big: bool) -> None:
    tags = [(274, SHORT, orientation), *tiles(64, 64)]
    assert decode(tiff(tags, big=big), LIMIT) == bytes(3072)


@pytest.mark.parametrize("rows", [1, 64, 2**32 - 1])
def test_a_tiff_with_ordinary_strips_is_decoded(rows: int) -> None:
    image = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    data = encode(image, "TIFF", compression="tiff_deflate", tiffinfo={ROWS: rows} if rows < 64 else {})
    assert decode(data, LIMIT) == decode(encode(image), LIMIT)
    if rows >= 64:
        assert decode(strip(rows), LIMIT) == bytes(3072)


OVERSIZED = {
    "tile": (tiff(tiles(HUGE, HUGE)), TooManyPixels),
    "tile, BigTIFF": (tiff(tiles(HUGE, HUGE), big=True), TooManyPixels),
    "tile size twice, large first": (tiff([*tiles(HUGE, HUGE), *tiles(64, 64)]), DamagedImage),
    "tile size twice, large last": (tiff([*tiles(64, 64), *tiles(HUGE, HUGE)]), DamagedImage),
    "tile size that Pillow cannot read": (tiff(tiles(HUGE, HUGE, SLONG8)), DamagedImage),
    "tile size that Pillow ignores": (tiff([*tiles(HUGE, HUGE, SLONG8), *tiles(64, 64)]), DamagedImage),
    "number of samples that Pillow cannot read": (
        tiff([*tiles(2000, 2000), (SPP, SLONG8, 500)]),
        DamagedImage,
    ),
}


@pytest.mark.parametrize(("data", "error"), OVERSIZED.values(), ids=OVERSIZED)
def test_a_tiff_with_oversized_blocks_is_refused_before_decoding(
    data: bytes, error: type[ImageError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TiffImageFile, "load", lambda _image: pytest.fail("a pixel was decoded"))
    with pytest.raises(error):
        decode(data, LIMIT)


def test_a_tiff_with_oversized_blocks_takes_little_memory() -> None:
    assert peak_bytes(*(data for data, _ in OVERSIZED.values())) < 50e6


@pytest.mark.parametrize("rows", [65_535, 7_900_000, 2**31 - 1, 2**32 - 1])
def test_a_strip_may_have_more_rows_than_the_image(rows: int) -> None:
    assert decode(strip(rows), LIMIT) == decode(strip(64), LIMIT)
    assert peak_bytes(strip(rows)) < 20e6


def gif(screen: tuple[int, int], frame: tuple[int, int, int, int], disposal: int = 2) -> bytes:
    """A GIF with one frame (left, top, width, height), whose pixel data is invalid."""
    control = b"!\xf9\x04" + bytes([disposal << 2 | 1]) + bytes(4)
    image = b"," + struct.pack("<4H", *frame) + b"\0" + b"\x08\x02\x04\x01\0"
    return b"GIF89a" + struct.pack("<2H", *screen) + bytes(3) + control + image + b";"


@pytest.mark.parametrize("frame", [(0, 0, 5000, 5000), (65_000, 2_000, 1, 1)], ids=["larger", "beside"])
def test_a_gif_frame_outside_the_screen_counts_towards_the_pixel_limit(
    frame: tuple[int, int, int, int],
) -> None:
    with pytest.raises(TooManyPixels):
        decode(gif((1, 1), frame), LIMIT)


@pytest.mark.parametrize("disposal", [2, 3])
def test_a_too_large_gif_frame_takes_little_memory(disposal: int) -> None:
    data = gif((1, 1), (0, 0, 65_535, 2_700), disposal)
    assert peak_bytes(data) < 20e6
    with pytest.raises(TooManyPixels):
        decode(data, LIMIT)


def webp(canvas: int) -> bytes:
    """An animated WebP of one 16 x 16 frame on a square canvas with this side."""
    return files.webp((canvas, canvas), (0, 0), Image.new("RGBA", (16, 16)))


def test_the_whole_canvas_of_a_webp_counts_towards_the_pixel_limit() -> None:
    assert len(decode(webp(64), LIMIT)) == 3072
    with pytest.raises(TooManyPixels):
        decode(webp(13_000), LIMIT)
    assert peak_bytes(webp(13_000)) < 50e6


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_is_decoded_even_if_later_frames_are_damaged(kind: str) -> None:
    first, second = Image.new("RGB", (40, 40), RED), Image.effect_noise((40, 40), 90).convert("RGB")
    options = {"WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}}.get(kind, {})
    data = bytearray(encode(first, kind, save_all=True, append_images=[second], **options))
    alone = len(encode(first, kind, **options))
    middle = (alone + len(data)) // 2  # inside the second frame's pixels
    data[middle : middle + 40] = bytes(40)
    with Image.open(BytesIO(data)) as image, contextlib.suppress(OSError, SyntaxError):
        image.seek(1)
        assert image.convert("RGB").tobytes() != second.tobytes()
    red, green, blue = pixel(bytes(data))
    assert red > 240
    assert max(green, blue) < 20
