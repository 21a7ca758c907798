"""A TIFF's first directory: read with checks, and written as a new one. An EXIF block has the same form."""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from PIL.ExifTags import Base as Tag
from PIL.TiffTags import BYTE, LONG, LONG8, RATIONAL, SHORT, UNDEFINED, lookup

from images.errors import DamagedImage, TooComplex

PIXEL_TAGS = {
    Tag.ImageWidth, Tag.ImageLength, Tag.BitsPerSample, Tag.SamplesPerPixel, Tag.SampleFormat,
    Tag.ExtraSamples, Tag.PhotometricInterpretation, Tag.ColorMap, Tag.YCbCrSubSampling,
    Tag.PlanarConfiguration, Tag.StripOffsets, Tag.StripByteCounts, Tag.RowsPerStrip,
    Tag.TileOffsets, Tag.TileByteCounts, Tag.TileWidth, Tag.TileLength,
    Tag.Compression, Tag.FillOrder, Tag.Predictor, Tag.T4Options, Tag.T6Options, Tag.JPEGTables,
}  # fmt: skip
# The first four bytes of a TIFF or EXIF block, and its byte order as in struct. A `+` marks a BigTIFF.
ORDERS = {b"II*\0": "<", b"II+\0": "<", b"MM\0*": ">", b"MM\0+": ">"}
YCBCR = 6
YCBCR_TAGS = {Tag.YCbCrCoefficients, Tag.YCbCrPositioning, Tag.ReferenceBlackWhite}
# The code of each type, as in struct. A rational is two numbers of 4 bytes, copied as one number.
CODES = {BYTE: "B", UNDEFINED: "B", SHORT: "H", LONG: "I", LONG8: "Q", RATIONAL: "Q"}
WRONG_TYPE = "The TIFF holds a number of a wrong type; open and save the image again."
MAX_ENTRIES = 4096
MAX_BLOCKS = 65_536  # strips or tiles; enough for 67 megapixels in tiles of 32 x 32


@dataclass(frozen=True)
class Directory:
    """The tags that are needed to decode the pixels. `order` is the byte order, `<` or `>` as in struct."""

    order: str
    tags: dict[int, tuple[int, ...]]

    def number(self, tag: int, default: int = 1) -> int:
        """The first value of a tag, or the default. Many tags have the default 1."""
        return self.tags.get(tag, (default,))[0]


def read_directory(data: bytes) -> Directory:
    """The directory. Raises like read_tags, or DamagedImage if Pillow and libtiff may read it differently."""
    tags = _read_checked(data, PIXEL_TAGS)
    if tags.get(Tag.PhotometricInterpretation) == (YCBCR,):
        tags |= _read_checked(data, YCBCR_TAGS)
    return Directory(ORDERS[data[:4]], tags)


def _read_checked(data: bytes, wanted: Collection[int]) -> dict[int, tuple[int, ...]]:
    tags: dict[int, tuple[int, ...]] = {}
    for tag, kind, values in read_tags(data, wanted):
        if (kind == RATIONAL) != (lookup(tag).type == RATIONAL):
            raise DamagedImage(WRONG_TYPE)
        if tag in tags:
            raise DamagedImage("The TIFF's directory names a tag twice; open and save the image again.")
        if values:
            is_single = lookup(tag).length == 1 and tag != Tag.JPEGTables
            tags[tag] = values[:1] if is_single else values
    return tags


def read_tags(data: bytes, wanted: Collection[int]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Tag, type and values of the wanted entries in the first directory.

    Raises KeyError if this is not a TIFF, struct.error if the directory or a wanted value is not inside the
    file, and ImageError for other faults.
    """
    order = ORDERS[data[:4]]
    is_big = data[2:4] in (b"+\0", b"\0+")
    offset, counter, head = ("Q", "Q", "HHQ") if is_big else ("I", "H", "HHI")
    (start,) = struct.unpack_from(order + offset, data, 8 if is_big else 4)
    start = min(start, len(data))  # for an offset over 2**63 struct would raise OverflowError
    (entries,) = struct.unpack_from(order + counter, data, start)
    if entries > MAX_ENTRIES:
        raise DamagedImage("The TIFF's directory is invalid; open and save the image again.")
    at = start + struct.calcsize(order + counter)
    for _ in range(entries):
        tag, kind, count = struct.unpack_from(order + head, data, at)
        at += struct.calcsize(order + head)
        if tag in wanted:
            yield tag, kind, _unpack(data, order, at, offset, kind, count)
        at += struct.calcsize(order + offset)


def _unpack(data: bytes, order: str, at: int, offset: str, kind: int, count: int) -> tuple[int, ...]:
    """The values at `at`. If they need more bytes than an offset has, only their offset is stored there."""
    if kind not in CODES:
        raise DamagedImage(WRONG_TYPE)
    if count > MAX_BLOCKS:
        raise TooComplex(f"The TIFF has a list of more than {MAX_BLOCKS:,} numbers; save it as PNG.")
    code = f"{order}{count}{CODES[kind]}"
    if struct.calcsize(code) > struct.calcsize(order + offset):
        (at,) = struct.unpack_from(order + offset, data, at)
    return struct.unpack_from(code, data, min(at, len(data)))


def write(directory: Directory, data: bytes) -> bytes:
    """The file as a classic TIFF with this directory instead of its own. The pixels keep their offsets."""
    order = directory.order
    tags = {tag: values for tag, values in directory.tags.items() if values}
    start = len(data) + len(data) % 2
    after = start + 2 + 12 * len(tags) + 4
    body, tail = struct.pack(order + "H", len(tags)), b""
    for tag, values in sorted(tags.items()):
        kind = lookup(tag).type
        assert kind is not None
        packed = struct.pack(f"{order}{len(values)}{CODES[kind]}", *values)
        body += struct.pack(order + "HHI", tag, kind, len(values))
        if len(packed) > 4:
            body += struct.pack(order + "I", after + len(tail))
            tail += packed + b"\0" * (len(packed) % 2)
        else:
            body += packed.ljust(4, b"\0")
    header = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, start)
    return b"".join((header, data[8:], b"\0" * (len(data) % 2), body, bytes(4), tail))
