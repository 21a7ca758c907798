"""Read HEIC and AVIF: one container, two codecs.

The container's boxes (ISO/IEC 14496-12 and 23008-12) are checked against the limits. The image is turned by
the container's own properties (irot, imir), which replace EXIF's orientation. `_prepare` hides EXIF and XMP
from the decoders.
"""

import math
import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from io import BytesIO

import pi_heif
from PIL import AvifImagePlugin, Image

from images.errors import TooComplex, UnsupportedVariant
from images.orientation import read_orientation
from images.picture import Picture, check_pixels

# One thread: the backend decodes several images at a time, and its limit on CPU time counts all threads.
pi_heif.options.DECODE_THREADS = 1
pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

# All tiles together may have this many times `max_pixels`, because tiles may reach beyond the image.
TILE_PIXELS_FACTOR = 2
MAX_BOXES = 10_000
# An `infe` entry: version and flags, id (two bytes, four in version 3), protection, type.
METADATA = re.compile(rb"infe(?:[\x00-\x02].{7}|\x03.{9})(Exif|mime)", re.DOTALL)


def read_heif(data: bytes, max_pixels: int) -> Picture:
    """The primary image of a HEIC file."""
    container = pi_heif.open_heif(_prepare(data, max_pixels), convert_hdr_to_8bit=True)
    check_pixels(*container.size, max_pixels)
    return Picture(container.to_pillow())


def read_avif(data: bytes, max_pixels: int) -> Picture:
    """The primary image of an AVIF file, or the first of a sequence."""
    image = Image.open(_prepare(data, max_pixels), formats=("AVIF",))
    check_pixels(image.width, image.height, max_pixels)
    # Pillow returns the container's orientation as EXIF.
    return Picture(image, read_orientation(image.info.get("exif", b"")))


def _prepare(data: bytes, max_pixels: int) -> BytesIO:
    """The file, with EXIF and XMP items changed to a type that decoders skip. Raises ImageError."""
    if not _find(memoryview(data), b"meta") and _find(memoryview(data), b"moov"):
        raise UnsupportedVariant(
            "The file is a sequence of frames without a still image; save one frame as JPEG."
        )
    if _count_tile_pixels(data) > TILE_PIXELS_FACTOR * max_pixels:
        raise TooComplex("The image's tiles have too many pixels together; save it as JPEG.")
    file = BytesIO(data)
    meta = _find(file.getbuffer(), b"meta")
    for found in METADATA.finditer(meta):
        meta[found.start(1) : found.end(1)] = b"skip"
    return file


def _count_tile_pixels(data: bytes) -> int:
    """The number of pixels in all tiles of the primary image; 0 if the image has no tiles.

    Decoders unpack each tile in full, even if the image shows little of it. Raises TooComplex for nested
    tiles and too many boxes.
    """
    meta = _find(memoryview(data), b"meta")[4:]
    primary = _find(meta, b"pitm")
    (image,) = struct.unpack_from(">I" if primary[0] else ">H", primary, 4)
    links = _read_links(meta)
    tiles = links.get(image, [])
    if any(tile in links for tile in tiles):
        raise TooComplex("The image's tiles consist of tiles; save it as JPEG.")
    properties = _find(meta, b"iprp")
    pixels = {  # the index of each size property, and its width times height
        index: math.prod(struct.unpack_from(">II", content, 4))
        for index, (name, content) in enumerate(_split(_find(properties, b"ipco")), start=1)
        if name == b"ispe"
    }
    owned = _read_associations(properties)
    return sum(pixels.get(index, 0) for tile in tiles for index in owned.get(tile, ()))


def _split(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The name and content of each box."""
    at = 0
    for _ in range(MAX_BOXES):
        if at + 8 > len(content):
            return
        size, name = struct.unpack_from(">I4s", content, at)
        head = 8
        if size == 1:
            head, (size,) = 16, struct.unpack_from(">Q", content, at + 8)
        end = at + max(head, size) if size else len(content)
        yield name, content[at + head : end]
        at = end
    raise TooComplex("The file has too many boxes; save the image as JPEG.")


def _find(content: memoryview, wanted: bytes) -> memoryview:
    """The content of the first box of this name; empty if there is none."""
    return next((inner for name, inner in _split(content) if name == wanted), memoryview(b""))


def _read_links(meta: memoryview) -> dict[int, list[int]]:
    """For each derived item, the ids of the items that it consists of."""
    links: defaultdict[int, list[int]] = defaultdict(list)
    references = _find(meta, b"iref")
    code = "I" if references and references[0] else "H"
    for name, link in _split(references[4:]):
        if name == b"dimg":
            derived, count = struct.unpack_from(f">{code}H", link)
            links[derived] += struct.unpack_from(f">{count}{code}", link, struct.calcsize(f">{code}H"))
    return links


def _read_associations(properties: memoryview) -> dict[int, list[int]]:
    """For each item, the indexes of its properties."""
    owned: defaultdict[int, list[int]] = defaultdict(list)
    for name, content in _split(properties):
        if name != b"ipma":
            continue
        head = ">IB" if content[0] else ">HB"
        code, mask = ("H", 0x7FFF) if content[3] & 1 else ("B", 0x7F)
        (entries,) = struct.unpack_from(">I", content, 4)
        at = 8
        for _ in range(min(entries, MAX_BOXES)):
            item, count = struct.unpack_from(head, content, at)
            at += struct.calcsize(head)
            indexes = struct.unpack_from(f">{count}{code}", content, at)
            at += struct.calcsize(f">{count}{code}")
            owned[item] += (index & mask for index in indexes)
    return owned
