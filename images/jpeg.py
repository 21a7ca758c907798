"""Read a JPEG.

Pillow reads only the segments that pixels need. EXIF, colour profiles, thumbnails and data after the image
are left out.
"""

import re
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image, ImageChops, ImageFile

from images.errors import DamagedImage, TooComplex, UnsupportedVariant
from images.fit import INPUT_SIZE
from images.orientation import UPRIGHT, read_orientation
from images.picture import Picture, check_pixels

# A marker's code. Stuffed zeros and restart markers inside a scan do not match.
MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
START, END, SCAN, COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
JFIF, EXIF, ADOBE = 0xE0, 0xE1, 0xEE
APPLICATION = range(0xE0, 0xF0)
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # starts of frame; the three removed are other segments
PROGRESSIVE = (0xC2, 0xCA)
HIERARCHICAL = (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF)

MAX_SEGMENTS = 10_000  # a 20 MB photo with much metadata has 500
# Decoding a scan of a progressive JPEG visits the whole image, even for a short scan. Photos have 10 scans.
MAX_SCANNED_PIXELS = 1_000_000_000
FEW_SCANS = 20  # MAX_SCANNED_PIXELS applies only to images with more scans
MIN_SHARE = 0.9  # a file that is cut short is decoded if it holds this share of the image


@dataclass
class Jpeg:
    """The contents of a JPEG file that decoding needs."""

    parts: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    frame: int = 0  # the marker of the start of frame
    size: tuple[int, int] = (0, 0)
    components: int = 1  # channels: 1 for grey, 3 or 4 for colours
    orientation: int | None = None  # of the first EXIF block
    scans: list[bytes] = field(default_factory=list[bytes])  # the header of each scan
    whole_scans: int = 0  # complete scans: another marker follows them
    ended: bool = False


def read(data: bytes, max_pixels: int) -> Picture:
    """The JPEG's first image, decoded at a fraction of its size if no side is under 128 pixels."""
    jpeg = _walk(data, max_pixels)
    image = _open(jpeg) if jpeg.ended else _read_cut(jpeg)
    return Picture(image, jpeg.orientation or UPRIGHT)


def _open(jpeg: Jpeg, end: bytes = b"\xff\xd9") -> ImageFile.ImageFile:
    image = Image.open(BytesIO(b"".join((*jpeg.parts, end))), formats=("JPEG",))
    image.draft("RGB", (2 * INPUT_SIZE, 2 * INPUT_SIZE))  # decodes at 1/2, 1/4 or 1/8 if possible
    return image


def _walk(data: bytes, max_pixels: int) -> Jpeg:
    """Read the segments of the first image. Raises ImageError, also if decoding would take too long."""
    jpeg = Jpeg()
    place = 2
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(data, place)
        start = found.start() if found else len(data)
        if jpeg.scans:
            jpeg.parts.append(data[place:start])  # the pixels of a scan
        if not found:
            return jpeg
        marker = data[start + 1]
        if marker == START:
            place = start + 2
            continue
        jpeg.whole_scans = len(jpeg.scans)
        if marker == END:
            jpeg.ended = True
            return jpeg
        place = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        if place > len(data):
            return jpeg
        if marker in APPLICATION:
            _take_application(jpeg, marker, data[start:place])
        elif marker != COMMENT:
            jpeg.parts.append(data[start:place])
            if marker == SCAN or marker in FRAMES:
                _take_header(jpeg, marker, data[start:place], max_pixels)
    raise TooComplex(f"The JPEG has more than {MAX_SEGMENTS:,} segments; open and save the image again.")


def _take_application(jpeg: Jpeg, marker: int, segment: bytes) -> None:
    """Read the orientation, and keep the segments that describe how colours are stored."""
    if marker == EXIF and segment.startswith(b"Exif\0\0", 4) and jpeg.orientation is None:
        jpeg.orientation = read_orientation(segment[4:])
    elif marker == JFIF and segment.startswith(b"JFIF\0", 4) and len(segment) >= 18:
        jpeg.parts.append(b"\xff\xe0\x00\x10" + segment[4:18])  # without its thumbnail
    elif marker == ADOBE and segment.startswith(b"Adobe", 4) and len(segment) >= 16:
        jpeg.parts.append(segment)


def _take_header(jpeg: Jpeg, marker: int, segment: bytes, max_pixels: int) -> None:
    """Record the header of a frame or scan, and check it against the limits."""
    if marker == SCAN:
        jpeg.scans.append(segment)
    elif len(segment) > 9:
        bits, height, width = struct.unpack_from(">BHH", segment, 4)
        jpeg.frame, jpeg.size, jpeg.components = marker, (width, height), max(1, segment[9])
        check_pixels(width, height, max_pixels)
        if bits != 8 or marker in HIERARCHICAL:
            kind = "hierarchical" if marker in HIERARCHICAL else f"{bits}-bit"
            raise UnsupportedVariant(f"This is a {kind} JPEG; save it as an ordinary 8-bit JPEG or as PNG.")
    width, height = jpeg.size
    scans = len(jpeg.scans)
    if scans > FEW_SCANS and scans * width * height > MAX_SCANNED_PIXELS:
        raise TooComplex(
            f"The JPEG has too many scans for its {width:,} x {height:,} pixels; save it as a baseline JPEG."
        )


def _read_cut(jpeg: Jpeg) -> Image.Image:
    """Decode a JPEG whose end is missing. Raises DamagedImage if less than 90% of the image is there."""
    image = _open(jpeg)
    image.load()
    if jpeg.frame in PROGRESSIVE:
        share = sum(map(len, _coefficients(jpeg).values())) / (64 * jpeg.components)
    else:
        share = _share_of_pixels(image)
        if share < MIN_SHARE:
            share = max(share, _share_of_rows(jpeg))
        share *= len(_coefficients(jpeg)) / jpeg.components  # each component may have its own scan
    if share < MIN_SHARE:
        what = "its details are" if jpeg.frame in PROGRESSIVE else "the image is"
        raise DamagedImage(f"The JPEG is cut short: {share:.0%} of {what} there. Use the whole file.")
    return image


def _share_of_pixels(image: Image.Image) -> float:
    """The share of a sequential image that was decoded. libjpeg leaves missing blocks middle grey."""
    width, height = image.size
    corner = tuple(image.crop((width - 1, height - 1, width, height)).tobytes())  # a value for each channel
    if not all(126 <= value <= 129 for value in corner):
        return 1
    decoded = _find_other(image, corner)
    if decoded is None:
        return 0
    bottom = decoded[3]
    last_row = _find_other(image.crop((0, bottom - 1, width, bottom)), corner)
    return (bottom - 1 + (last_row[2] if last_row else 0) / width) / height


def _share_of_rows(jpeg: Jpeg) -> float:
    """The share of rows that libjpeg decodes. Unlike `_share_of_pixels`, it is exact for middle grey images.

    Rows that libjpeg does not write keep the colour `unused`. With an end marker they would become grey.
    """
    image = _open(jpeg, end=bytes(8))  # libjpeg decodes a block only if 8 bytes follow
    unused = (1,) * len(image.getbands())
    image.im = Image.new(image.mode, image.size, unused).im
    with suppress(OSError):  # the end marker is missing
        image.load()
    image.tile = []  # otherwise Pillow would decode again
    decoded = _find_other(image, unused)
    return decoded[3] / image.height if decoded else 0


def _find_other(image: Image.Image, colour: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """The bounding box of all pixels of another colour; None if there are none."""
    return ImageChops.difference(image, Image.new(image.mode, image.size, colour)).getbbox()


def _coefficients(jpeg: Jpeg) -> dict[int, set[int]]:
    """For each component that has a scan, which of its 64 coefficients the file holds.

    A coefficient counts after its first complete scan; later scans only refine it. A scan that is cut short
    adds no coefficients.
    """
    there: dict[int, set[int]] = {}
    for number, scan in enumerate(jpeg.scans):
        count = scan[4]
        first, last = scan[5 + 2 * count], scan[6 + 2 * count]
        for component in scan[5 : 5 + 2 * count : 2]:
            found = there.setdefault(component, set())
            found.update(range(first, min(last, 63) + 1) if number < jpeg.whole_scans else ())
    return there
