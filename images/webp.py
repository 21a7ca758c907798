"""Read a WebP (RFC 9649): its image, or the first frame of an animation on its canvas."""

import struct
from io import BytesIO

from PIL import Image

from images.errors import TooComplex
from images.orientation import read_orientation
from images.picture import Picture, check_pixels, place

ALPHA = 0x10  # a flag of VP8X
MAX_CHUNKS = 100_000  # reading the headers of 100,000 chunks takes 40 ms

Chunks = dict[bytes, memoryview]


def read(data: bytes, max_pixels: int) -> Picture:
    """The first frame on its canvas. libwebp gets only this frame, so it allocates no canvas of its own."""
    chunks = _walk(memoryview(data)[12:])
    frame, position, canvas = chunks, (0, 0), None
    if b"ANMF" in chunks:
        canvas = (_read_uint24(chunks[b"VP8X"], 4) + 1, _read_uint24(chunks[b"VP8X"], 7) + 1)
        position = (2 * _read_uint24(chunks[b"ANMF"], 0), 2 * _read_uint24(chunks[b"ANMF"], 3))
        frame = _walk(chunks[b"ANMF"][16:])
    size = _read_size(frame)
    canvas = canvas or size
    check_pixels(*size, max_pixels)
    check_pixels(*canvas, max_pixels)
    image = Image.open(BytesIO(_pack(frame, size)), formats=("WEBP",))
    return Picture(place(image, position, canvas), read_orientation(bytes(chunks.get(b"EXIF", b""))))


def _walk(content: memoryview) -> Chunks:
    """The first chunk of each name. A chunk at the end of `content` may be cut short."""
    chunks: Chunks = {}
    at = 0
    for _ in range(MAX_CHUNKS + 1):
        if at + 8 > len(content):
            return chunks
        name, size = struct.unpack_from("<4sI", content, at)
        chunks.setdefault(name, content[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    raise TooComplex(f"The WebP has more than {MAX_CHUNKS:,} chunks; open and save the image again.")


def _read_uint24(content: memoryview, at: int) -> int:
    """A little-endian number of three bytes."""
    return int.from_bytes(content[at : at + 3], "little")


def _read_size(frame: Chunks) -> tuple[int, int]:
    """Width and height, from the header of the chunk with the pixels."""
    if b"VP8L" in frame:
        (bits,) = struct.unpack_from("<I", frame[b"VP8L"], 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", frame[b"VP8 "], 6)
    return width & 0x3FFF, height & 0x3FFF


def _pack(frame: Chunks, size: tuple[int, int]) -> bytes:
    """A WebP file that holds only this frame."""
    names = [b"VP8L"] if b"VP8L" in frame else [name for name in (b"ALPH", b"VP8 ") if name in frame]
    parts = [
        struct.pack("<4sI", name, len(frame[name])) + frame[name] + b"\0" * (len(frame[name]) % 2)
        for name in names
    ]
    if names[0] == b"ALPH":
        sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
        parts.insert(0, struct.pack("<4sI4B", b"VP8X", 10, ALPHA, 0, 0, 0) + sides)
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
