"""Read HEIC and AVIF: one container, two codecs.

Both decoders turn the image by the container's own properties (irot, imir), which replace EXIF's orientation.
`hide_metadata` keeps them from reading EXIF and XMP as well.
"""

from io import BytesIO

import pi_heif
from PIL import AvifImagePlugin, Image

from images.errors import TooComplex
from images.heif_boxes import count_tile_pixels, hide_metadata
from images.orientation import read_orientation
from images.picture import Picture, check_pixels

# No threads: the backend decodes several images at a time, and its limit on CPU time counts all threads.
pi_heif.options.DECODE_THREADS = 1
pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

# A decoder unpacks each tile in full. A photo shows nearly all of its tiles' pixels.
MAX_TILE_SHARE = 2


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
    """The file without its metadata. Raises TooComplex."""
    if count_tile_pixels(data) > MAX_TILE_SHARE * max_pixels:
        raise TooComplex("The image's tiles have many more pixels than the image; save it as JPEG.")
    return hide_metadata(data)
