"""Image files. Most are built byte by byte, so that a test can choose each part."""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
RANDOM = np.random.default_rng(0)

Samples = NDArray[np.integer[Any] | np.floating[Any]]  # (height, width) or (height, width, samples)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def few_values(most: int, samples: int = 1, side: int = SIDE) -> Samples:
    """Random samples from at most seven values between 0 and `most`."""
    values = np.unique(np.linspace(0, most, 7).astype(np.int64))
    found = RANDOM.choice(values, (side, side, samples))
    return found[:, :, 0] if samples == 1 else found


def pack_rows(samples: Samples, bits: int, order: str = ">", row_multiple: int = 1) -> list[bytes]:
    """The bytes of each row. Samples of 1 to 7 or 12 bits are packed without gaps, high bit first."""
    rows = samples.reshape(samples.shape[0], -1)
    if bits >= 8 and bits != 12:
        kind = "f" if rows.dtype.kind == "f" else "u"
        packed = [row.astype(f"{order}{kind}{bits // 8}").tobytes() for row in rows]
    else:
        flat = (rows[:, :, None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
        packed = [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in flat]
    return [row + bytes(-len(row) % row_multiple) for row in packed]


def chunk(name: bytes, content: bytes, *, checksum: int | None = None) -> bytes:
    """A chunk of a PNG. A given checksum replaces the correct one."""
    crc = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def png(samples: Samples, depth: int, colour_type: int, *before: bytes, after: bytes = b"") -> bytes:
    """A PNG of these samples, with chunks before and after its pixels."""
    height, width = samples.shape[:2]
    pixels = zlib.compress(b"".join(b"\0" + row for row in pack_rows(samples, depth)))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *before, chunk(b"IDAT", pixels), after, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bmp(
    rows: list[bytes],
    bits: int,
    *,
    header: int = 40,
    compression: int = 0,
    masks: Sequence[int] = (),
    palette: Sequence[tuple[int, int, int]] = (),
    top_down: bool = False,
    colours_used: int | None = None,
) -> bytes:
    """A BMP of 32 x 32 pixels with a header of `header` bytes. `rows` are packed rows, the top row first.

    Run-length data of the whole image may be a single item of `rows`.
    """
    entry = 3 if header == 12 else 4
    colours = b"".join(bytes(reversed(colour)).ljust(entry, b"\0") for colour in palette)
    if header == 12:
        info = struct.pack("<IHHHH", 12, SIDE, SIDE, 1, bits)
    else:
        height = -SIDE if top_down else SIDE
        used = len(palette) if colours_used is None else colours_used
        info = struct.pack("<IiiHHIIiiII", header, SIDE, height, 1, bits, compression, 0, 0, 0, used, 0)
        packed = struct.pack(f"<{len(masks)}I", *masks)
        info = info + packed if header == 40 else (info + packed).ljust(header, b"\0")
    pixels = b"".join(rows if top_down else reversed(rows))
    start = 14 + len(info) + len(colours)
    return struct.pack("<2sIII", b"BM", start + len(pixels), 0, start) + info + colours + pixels


def tiff(samples: Samples, bits: int, photometric: int, order: str = "<", **tags: Sequence[int]) -> bytes:
    """A TIFF of one strip, or one for each plane if tag 284 is 2. Deflated if tag 259 is 8.

    Keywords are tags: `t338=(2,)`.
    """
    height, width = samples.shape[:2]
    count = samples.shape[2] if samples.ndim == 3 else 1
    given = {int(name[1:]): tuple(values) for name, values in tags.items()}
    planes = [samples[:, :, n] for n in range(count)] if given.get(284) == (2,) else [samples]
    strips = [b"".join(pack_rows(plane, bits, order)) for plane in planes]
    if given.get(259) == (8,):
        strips = [zlib.compress(strip) for strip in strips]
    places = [8 + sum(map(len, strips[:n])) for n in range(len(strips))]
    entries: dict[int, tuple[int, ...]] = {
        256: (width,), 257: (height,), 258: (bits,) * count, 259: (1,), 262: (photometric,),
        273: tuple(places), 277: (count,), 278: (height,), 279: tuple(map(len, strips)),
        **({339: (3,) * count} if samples.dtype.kind == "f" else {}), **given,
    }  # fmt: skip
    data = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + sum(map(len, strips)))
    return data + b"".join(strips) + directory(entries, order, 8 + sum(map(len, strips)))


def directory(entries: dict[int, tuple[int, ...]], order: str, start: int) -> bytes:
    """A TIFF directory at offset `start`. Values are SHORT (3), LONG (4) or pairs: RATIONAL (5)."""
    head, tail = struct.pack(order + "H", len(entries)), b""
    after = start + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        kind, code = (4, "I") if tag in (256, 257, 273, 278, 279, 324, 325) else (3, "H")
        count = len(values)
        if tag in (529, 532):
            kind, code, count = 5, "I", count // 2
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(packed) > 4:
            packed, tail = struct.pack(order + "I", after + len(tail)), tail + packed
        head += struct.pack(order + "HHI", tag, kind, count) + packed.ljust(4, b"\0")
    return head + bytes(4) + tail


def gif(
    screen: tuple[int, int],
    frame: tuple[int, int, int, int],
    values: Sequence[int],
    *,
    palette: bytes = bytes(range(0, 96, 8)),
    transparent: int | None = None,
    disposal: int = 0,
) -> bytes:
    """A GIF of one frame (left, top, width, height) in four colours, without compression."""
    palette = palette[:12].ljust(12, b"\0")
    head = b"GIF89a" + struct.pack("<2H", *screen) + bytes((0x81, 0, 0)) + palette
    control = b"!\xf9\x04" + bytes((disposal << 2 | (transparent is not None), 0, 0, transparent or 0, 0))
    bits: list[int] = []
    for number, value in enumerate(values):
        if number % 2 == 0:
            bits += [0, 0, 1]  # code 4 clears the table, which keeps codes at three bits
        bits += [value & 1, value >> 1 & 1, 0]
    bits += [1, 0, 1]  # code 5: the end
    packed = np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()
    blocks = b"".join(
        bytes((len(packed[at : at + 255]),)) + packed[at : at + 255] for at in range(0, len(packed), 255)
    )
    return head + control + b"," + struct.pack("<4HB", *frame, 0) + b"\x02" + blocks + b"\0;"


def riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp(canvas: tuple[int, int], place: tuple[int, int], frame: Image.Image, **options: Any) -> bytes:
    """An animated WebP of one frame at an even position on its canvas."""

    def three(number: int) -> bytes:
        return number.to_bytes(3, "little")

    image = encode(frame, "WEBP", **({"lossless": True} | options))[12:]
    if image.startswith(b"VP8X"):
        image = image[18:]
    sides = three(frame.width - 1) + three(frame.height - 1)
    content = three(place[0] // 2) + three(place[1] // 2) + sides + three(100) + b"\0" + image
    extended = bytes((0x12, 0, 0, 0)) + three(canvas[0] - 1) + three(canvas[1] - 1)
    return riff(b"RIFF", b"WEBP" + riff(b"VP8X", extended) + riff(b"ANIM", bytes(6)) + riff(b"ANMF", content))
