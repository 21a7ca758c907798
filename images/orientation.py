"""Read the camera's orientation from EXIF.

No other tag of EXIF is read: the values that cameras and editors write into other tags can break readers.
"""

import struct

from PIL import Image
from PIL.ExifTags import Base as Tag
from PIL.TiffTags import SHORT

from images.errors import ImageError
from images.tiff_directory import read_tags

UPRIGHT = 1

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
    """The orientation in an EXIF block or in a TIFF, 1 to 8.

    Returns 1 (upright) if the tag is missing, if it is not one SHORT from 1 to 8, or if the block is damaged.
    """
    try:
        for _, kind, values in read_tags(exif.removeprefix(b"Exif\0\0"), {Tag.Orientation}):
            return values[0] if kind == SHORT and len(values) == 1 and values[0] in TURNS else UPRIGHT
    except (struct.error, LookupError, ImageError):
        pass
    return UPRIGHT
