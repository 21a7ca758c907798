"""Read HEIC and AVIF: one container, two codecs.

Both decoders turn the image by the container's own properties (irot, imir), which replace EXIF's orientation.
`hide_metadata` keeps them from reading EXIF and XMP as well.
"""

from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO

import pi_heif
from PIL import AvifImagePlugin, Image

from images.errors import DamagedImage, TooComplex
from images.heif_boxes import count_tile_pixels, hide_metadata
from images.orientation import UPRIGHT, read_orientation
from images.picture import Picture, check_pixels

# No threads: the backend decodes several images at a time, and its limit on CPU time counts all threads.
pi_heif.options.DECODE_THREADS = 1
pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

# A decoder unpacks each tile in full. A photo shows nearly all of its tiles' pixels.
MAX_TILE_SHARE = 2


def read_heif(data: bytes, max_pixels: int) -> Picture:
    """The primary image of a HEIC file."""
    with _refusals():
        _check_tiles(data, max_pixels)
        container = pi_heif.open_heif(BytesIO(hide_metadata(data)), convert_hdr_to_8bit=True)
        check_pixels(*container.size, max_pixels)
        return Picture(container.to_pillow(), white=65_535)


def read_avif(data: bytes, max_pixels: int) -> Picture:
    """The primary image of an AVIF file, or the first of a sequence."""
    with _refusals():
        _check_tiles(data, max_pixels)
        image = Image.open(BytesIO(hide_metadata(data)), formats=("AVIF",))
        check_pixels(image.width, image.height, max_pixels)
        image.load()
    # Pillow returns the container's orientation as EXIF.
    orientation = read_orientation(image.info["exif"]) if "exif" in image.info else UPRIGHT
    return Picture(image, orientation)


def _check_tiles(data: bytes, max_pixels: int) -> None:
    if count_tile_pixels(data) > MAX_TILE_SHARE * max_pixels:
        raise TooComplex("The image's tiles have many more pixels than the image; save it as JPEG.")


@contextmanager
def _refusals() -> Generator[None]:
    """Turn the decoders' errors into DamagedImage.

    Both raise RuntimeError for files that are damaged or over the limits of libheif. Pillow divides by the
    number of ticks per second, which may be zero.
    """
    try:
        yield
    except (RuntimeError, ZeroDivisionError) as error:
        raise DamagedImage(
            "The image is damaged, or larger than its format allows; save it as JPEG."
        ) from error
