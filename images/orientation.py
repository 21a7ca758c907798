"""Read the camera's orientation from EXIF, and turn pixels by it.

No other tag of EXIF is read: cameras and editors write values there that break readers.
"""

import struct

from PIL import Image

UPRIGHT = 1
TAG, SHORT = 0x0112, 3

# For each value of the tag, the operation that turns the stored pixels upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block, 1 to 8.

    Returns 1 (upright) if the tag is missing, if its type is not one SHORT as in the standard, or if the
    block is damaged.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == TAG:
                return value if (kind, values) == (SHORT, 1) and value in TURNS else UPRIGHT
    except struct.error:  # an offset or count points outside the block
        pass
    return UPRIGHT


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned upright."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image
