"""The boxes of a HEIC or AVIF file (ISO/IEC 14496-12 and 23008-12) that the limits need."""

import re
import struct
from collections.abc import Iterator

from images.errors import DamagedImage, TooComplex

MAX_BOXES = 10_000
# An `infe` entry: version and flags, id (two bytes, four in version 3), protection, type.
METADATA = re.compile(rb"(infe(?:[\x00-\x02].{7}|\x03.{9}))(?:Exif|mime)", re.DOTALL)


def find_description(data: bytes) -> tuple[int, int]:
    """The offsets of the start and the end of the box `meta`. Raises DamagedImage."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
        end = at + size if size else len(data)
        if name == b"meta":
            return at, end
        if end < at + 8:
            break
        at = end
    raise DamagedImage(
        "The file has no description of its image: it is cut short or damaged. Save the image again."
    )


def hide_metadata(data: bytes) -> bytes:
    """The same file, in which EXIF and XMP items have a type that decoders skip as unknown."""
    start, end = find_description(data)
    return data[:start] + METADATA.sub(rb"\1skip", data[start:end]) + data[end:]


def count_tile_pixels(data: bytes) -> int:
    """The number of pixels in all tiles of the primary image; 0 if the image has no tiles.

    Decoders unpack each tile in full, even if the image shows little of it. Raises ImageError.
    """
    start, end = find_description(data)
    boxes = dict(_split(data[start + 12 : end]))
    links = _read_links(boxes.get(b"iref", b""))
    primary = _number(boxes[b"pitm"], 4, wide=boxes[b"pitm"][0] > 0)
    tiles = links.get(primary, ())
    if any(tile in links for tile in tiles):
        raise TooComplex("The image's tiles consist of tiles; save it as JPEG.")
    properties = list(_split(dict(_split(boxes[b"iprp"])).get(b"ipco", b"")))
    owned = [_read_associations(content) for name, content in _split(boxes[b"iprp"]) if name == b"ipma"]
    return sum(_area(properties, index) for tile in tiles for found in owned for index in found.get(tile, ()))


def _split(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The name and content of each box inside a box."""
    at = 0
    for _ in range(MAX_BOXES):
        if at + 8 > len(content):
            return
        size, name = struct.unpack_from(">I4s", content, at)
        yield name, content[at + 8 : at + size]
        at += max(8, size)
    raise TooComplex("The file has too many boxes; save the image as JPEG.")


def _number(content: bytes, at: int, *, wide: bool) -> int:
    return struct.unpack_from(">I" if wide else ">H", content, at)[0]


def _read_links(content: bytes) -> dict[int, tuple[int, ...]]:
    """For each derived item, the ids of the items that it consists of."""
    links: dict[int, tuple[int, ...]] = {}
    wide = content[:1] > b"\0"
    id_bytes, code = (4, "I") if wide else (2, "H")
    for name, link in _split(content[4:]):
        if name == b"dimg":
            (count,) = struct.unpack_from(">H", link, id_bytes)
            targets = struct.unpack_from(f">{count}{code}", link, id_bytes + 2)
            maker = _number(link, 0, wide=wide)
            links[maker] = links.get(maker, ()) + targets
    return links


def _read_associations(content: bytes) -> dict[int, list[int]]:
    """For each item, the indices of its properties."""
    wide_ids, wide_indices = content[0] > 0, bool(content[3] & 1)
    found: dict[int, list[int]] = {}
    at = 8
    for _ in range(min(_number(content, 4, wide=True), MAX_BOXES)):
        item = _number(content, at, wide=wide_ids)
        at += 4 if wide_ids else 2
        count = content[at]
        step = 2 if wide_indices else 1
        indices = [int.from_bytes(content[at + 1 + n * step : at + 1 + (n + 1) * step]) for n in range(count)]
        found.setdefault(item, []).extend(index & (0x7FFF if wide_indices else 0x7F) for index in indices)
        at += 1 + count * step
    return found


def _area(properties: list[tuple[bytes, bytes]], index: int) -> int:
    """Width times height if the property is a size, else 0."""
    name, content = properties[index - 1] if 0 < index <= len(properties) else (b"", b"")
    if name != b"ispe":
        return 0
    width, height = struct.unpack_from(">II", content, 4)
    return width * height
