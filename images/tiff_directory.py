"""A TIFF's first directory: read with checks, and written as a new one."""

import struct
from contextlib import suppress
from dataclasses import dataclass, replace

from images.errors import DamagedImage, TooComplex
from images.orientation import SHORT, TURNS, UPRIGHT
from images.orientation import TAG as ORIENTATION

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES = 256, 257, 258, 259, 262, 277
STRIPS, ROWS_PER_STRIP, STRIP_BYTES = 273, 278, 279
TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 322, 323, 324, 325
PLANAR, COLOUR_MAP, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 284, 320, 338, 339, 530
FILL_ORDER, T4_OPTIONS, T6_OPTIONS, PREDICTOR, POSITIONING = 266, 292, 293, 317, 531
JPEG_TABLES, COEFFICIENTS, REFERENCES = 347, 529, 532

NUMBERS = {
    BITS, STRIPS, STRIP_BYTES, TILES, TILE_BYTES, COLOUR_MAP, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING,
}  # fmt: skip
SINGLE_NUMBERS = {
    WIDTH, LENGTH, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH, PLANAR,
    FILL_ORDER, T4_OPTIONS, T6_OPTIONS, PREDICTOR,
}  # fmt: skip
NUMBER_TYPES = {1: "B", SHORT: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8
LONG, RATIONAL, UNDEFINED = 4, 5, 7
# Type and count of tags that EXIF also has, for images of every kind. Others are skipped.
OPTIONAL = {POSITIONING: (SHORT, 1), COEFFICIENTS: (RATIONAL, 3), REFERENCES: (RATIONAL, 6)}
LONG_TAGS = {
    WIDTH, LENGTH, STRIPS, STRIP_BYTES, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES,
    T4_OPTIONS, T6_OPTIONS,
}  # fmt: skip
LONGEST = 2**32 - 1
MAX_ENTRIES = 4096
MAX_BLOCKS = 65_536  # strips or tiles: 64 megapixels in tiles of 32 x 32


@dataclass(frozen=True)
class Directory:
    """The tags that decoding pixels needs. `order` is the byte order, `<` or `>` as in struct."""

    order: str
    tags: dict[int, tuple[int, ...]]  # a rational number takes two values
    orientation: int

    def number(self, tag: int, default: int) -> int:
        values = self.tags.get(tag, ())
        return values[0] if values else default

    def with_tag(self, tag: int, *values: int) -> "Directory":
        return replace(self, tags={**self.tags, tag: values})


def read_directory(data: bytes) -> Directory:
    """The first directory. Raises DamagedImage, also for values that libraries may read differently."""
    order = "<" if data.startswith(b"II") else ">"
    try:
        return _read(data, order)
    except struct.error as error:
        raise DamagedImage("The TIFF's directory is cut short; upload the whole file again.") from error


def _read(data: bytes, order: str) -> Directory:
    big = data[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    counter, entry, room = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    start = min(start, len(data))  # struct refuses larger offsets
    (entries,) = struct.unpack_from(order + counter, data, start)
    if entries > MAX_ENTRIES:
        raise DamagedImage("The TIFF's directory is invalid; open and save the image again.")
    tags: dict[int, tuple[int, ...]] = {}
    orientation = UPRIGHT
    for number in range(entries):
        at = start + struct.calcsize(order + counter) + number * (struct.calcsize(order + entry) + room)
        tag, kind, count = struct.unpack_from(order + entry, data, at)
        value_at = at + struct.calcsize(order + entry)
        if tag == ORIENTATION and (kind, count) == (SHORT, 1):
            (orientation,) = struct.unpack_from(order + "H", data, value_at)
        elif OPTIONAL.get(tag) == (kind, count):
            with suppress(struct.error):
                tags[tag] = _unpack(data, order, value_at, room, kind, count)
        elif tag in NUMBERS or tag in SINGLE_NUMBERS or tag == JPEG_TABLES:
            if tag in tags or kind not in ((1, UNDEFINED) if tag == JPEG_TABLES else NUMBER_TYPES):
                raise DamagedImage(
                    "The TIFF's directory breaks the rules of the format; open and save it again."
                )
            if values := _unpack(data, order, value_at, room, kind, count):
                tags[tag] = values[:1] if tag in SINGLE_NUMBERS else values
    return Directory(order, tags, orientation if orientation in TURNS else UPRIGHT)


def _unpack(data: bytes, order: str, at: int, room: int, kind: int, count: int) -> tuple[int, ...]:
    """The values at `at`. If they need more than `room` bytes, `at` holds the offset of the values."""
    if count > MAX_BLOCKS:
        raise TooComplex(f"The TIFF has more than {MAX_BLOCKS:,} strips or tiles; save it with larger ones.")
    code = {RATIONAL: f"{2 * count}I", UNDEFINED: f"{count}B"}.get(kind) or f"{count}{NUMBER_TYPES[kind]}"
    if struct.calcsize(order + code) > room:
        (at,) = struct.unpack_from(order + ("Q" if room == 8 else "I"), data, at)
    return struct.unpack_from(order + code, data, min(at, len(data)))


def write(directory: Directory, data: bytes) -> bytes:
    """The file as a classic TIFF with this directory instead of its own. The pixels keep their offsets."""
    order = directory.order
    start = len(data) + len(data) % 2
    after = start + 2 + 12 * len(directory.tags) + 4
    body, tail = struct.pack(order + "H", len(directory.tags)), b""
    for tag, values in sorted(directory.tags.items()):
        kind = _type(tag)
        code = {UNDEFINED: "B", SHORT: "H"}.get(kind, "I")
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        count = len(values) // 2 if kind == RATIONAL else len(values)
        body += struct.pack(order + "HHI", tag, kind, count)
        if len(packed) > 4:
            body += struct.pack(order + "I", after + len(tail))
            tail += packed + b"\0" * (len(packed) % 2)
        else:
            body += packed.ljust(4, b"\0")
    header = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, start)
    return b"".join((header, data[8:], b"\0" * (len(data) % 2), body, bytes(4), tail))


def _type(tag: int) -> int:
    if tag in OPTIONAL:
        return OPTIONAL[tag][0]
    return UNDEFINED if tag == JPEG_TABLES else LONG if tag in LONG_TAGS else SHORT
