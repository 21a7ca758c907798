"""Read a GIF: its first frame, on the canvas of the whole animation."""

import struct
from io import BytesIO

from PIL import Image

from images.errors import TooComplex
from images.picture import Picture, check_pixels, place

EXTENSION, IMAGE = 0x21, 0x2C
GRAPHIC_CONTROL = 0xF9
HAS_PALETTE = 0x80
MAX_BLOCKS = 100_000  # comments and other blocks before the first frame; skipping 100,000 takes 30 ms


def read(data: bytes, max_pixels: int) -> Picture:
    """The first frame on its canvas. The rest of the canvas is white.

    Pillow reads a copy whose canvas has the frame's size. Earlier blocks are left out, but not transparency.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    start = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & HAS_PALETTE else 0)
    control, at = _find_frame(data, start)
    left, top, frame_width, frame_height, frame_flags = struct.unpack_from("<HHHHB", data, at + 1)
    canvas = (max(width, left + frame_width), max(height, top + frame_height))
    check_pixels(*canvas, max_pixels)
    head = data[:6] + struct.pack("<HH", frame_width, frame_height) + data[10:start]
    frame = struct.pack("<BHHHHB", IMAGE, 0, 0, frame_width, frame_height, frame_flags)
    image = Image.open(BytesIO(b"".join((head, control, frame, data[at + 10 :]))), formats=("GIF",))
    return Picture(place(image, (left, top), canvas))


def _find_frame(data: bytes, offset: int) -> tuple[bytes, int]:
    """The graphic control extension for transparency (empty if there is none), and the frame's offset."""
    control = b""
    blocks = 0
    while data[offset] != IMAGE:
        if data[offset] == EXTENSION:
            label, size = data[offset + 1], data[offset + 2]
            if label == GRAPHIC_CONTROL and size >= 4 and data[offset + 3] & 1:
                control = bytes((EXTENSION, GRAPHIC_CONTROL, 4, 1, 0, 0, data[offset + 6], 0))
            offset += 2
            while data[offset] and blocks <= MAX_BLOCKS:
                offset += 1 + data[offset]
                blocks += 1
        offset += 1
        blocks += 1
        if blocks > MAX_BLOCKS:
            raise TooComplex(
                f"The GIF has more than {MAX_BLOCKS:,} blocks before its first frame; open and save it again."
            )
    return control, offset
