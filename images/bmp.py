"""Read a BMP.

`_pack` writes every header in one form for Pillow, with a palette of the full length for the depth. With a
shorter palette of greys, Pillow would read the image as one without palette and of another depth.
"""

import struct
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from images.errors import DamagedImage, TooComplex, UnknownFormat, UnsupportedVariant
from images.picture import Picture, check_pixels

CORE, INFO = 12, 40  # header lengths in bytes: the oldest header, and the one that later headers extend
HEADERS = (CORE, INFO, 52, 56, 64, 108, 124)
WITH_ALPHA_MASK = (56, 108, 124)
RAW, RLE8, RLE4, BITFIELDS, ALPHA_BITFIELDS = 0, 1, 2, 3, 6
INSIDE = {4: "JPEG", 5: "PNG"}  # compressions that hold a whole file of another format
NO_GREY = b"\xff\0\0\0"  # a 17th colour, which no pixel of 4 bits can name
ADVICE = "save it as PNG, or as a 24-bit BMP."
# Pillow expands run-length encoding in Python: 0.1 s for a million pixels and bytes.
MAX_RUN_LENGTH_WORK = 10_000_000


@dataclass(frozen=True)
class Header:
    width: int
    height: int  # negative: the top row is stored first
    bits: int
    compression: int
    masks: tuple[int, int, int, int]  # red, green, blue, alpha
    palette: bytes  # four bytes a colour, padded to the full length for the depth
    pixels_at: int


def read(data: bytes, max_pixels: int) -> Picture:
    header = _read_header(data)
    check_pixels(header.width, abs(header.height), max_pixels)
    _check(header, len(data))
    try:
        image = Image.open(BytesIO(_pack(header, data)), formats=("BMP",))
    except OSError as error:  # `_pack` wrote the header, so only the bit masks can be wrong
        raise UnsupportedVariant(
            f"This is a {header.bits}-bit BMP with unusual bit masks; {ADVICE}"
        ) from error
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        # Programs without support for alpha write zeros. Browsers show such an image as opaque, too.
        image = image.convert("RGB")
    return Picture(image)


def _read_header(data: bytes) -> Header:
    start, size = struct.unpack_from("<II", data, 10)
    if size not in HEADERS:
        raise UnknownFormat("The file begins like a BMP but is not one; save the image as PNG or JPEG.")
    compression, colours, masks, after = RAW, 0, (0, 0, 0, 0), 14 + size
    if size == CORE:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        (colours,) = struct.unpack_from("<I", data, 46)
    if compression in (BITFIELDS, ALPHA_BITFIELDS) and size != 64:
        count = 4 if compression == ALPHA_BITFIELDS or size in WITH_ALPHA_MASK else 3
        red, green, blue, *alpha = struct.unpack_from(f"<{count}I", data, 54)
        masks = (red, green, blue, alpha[0] if alpha else 0)
        after = max(after, 54 + 4 * count)
        compression = BITFIELDS
    most = 2**bits if bits in (1, 4, 8) else 0
    entry = 3 if size == CORE else 4
    stored = data[after : after + entry * min(colours or most, most)]
    palette = b"".join(stored[at : at + 3] + b"\0" for at in range(0, len(stored) - 2, entry))
    return Header(
        width, height, bits, compression, masks, palette.ljust(4 * most, b"\0"), start or after + len(stored)
    )


def _check(header: Header, size: int) -> None:
    if header.width < 1 or header.height == 0:
        raise DamagedImage("The BMP's header is invalid; open and save the image again.")
    if header.bits == 16 and header.masks[3]:
        raise UnsupportedVariant(f"This is a 16-bit BMP with transparency; {ADVICE}")
    if header.compression in INSIDE:
        raise UnsupportedVariant(f"This is a BMP with {INSIDE[header.compression]} inside; {ADVICE}")
    if header.bits not in (1, 4, 8, 16, 24, 32) or header.compression not in (RAW, RLE8, RLE4, BITFIELDS):
        raise UnsupportedVariant(
            f"This is a {header.bits}-bit BMP with compression {header.compression}; {ADVICE}"
        )
    if header.compression in (RLE8, RLE4) and header.width * abs(header.height) + size > MAX_RUN_LENGTH_WORK:
        raise TooComplex(f"The BMP is too large for run-length encoding; {ADVICE}")


def _pack(header: Header, data: bytes) -> bytes:
    """A BMP of the same pixels with a version 4 header."""
    palette = header.palette + (NO_GREY if header.bits == 4 else b"")
    fields = (header.width, header.height, 1, header.bits, header.compression, len(palette) // 4)
    info = struct.pack("<IiiHHI12xI4x4I52x", 108, *fields, *header.masks)
    head = struct.pack("<2s8xI", b"BM", 14 + len(info) + len(palette))
    return head + info + palette + data[header.pixels_at :]
