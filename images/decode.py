"""Decode one image file under limits."""

import logging
import struct

from PIL import Image

from images import bmp, gif, heif, jpeg, png, ppm, tiff, webp
from images.errors import DamagedImage, ImageError, TooComplex
from images.fit import fit
from images.formats import FORMATS, NAMES, identify

logger = logging.getLogger(__name__)

READERS = {
    "JPEG": jpeg.read,
    "PNG": png.read,
    "WEBP": webp.read,
    "GIF": gif.read,
    "BMP": bmp.read,
    "TIFF": tiff.read,
    "HEIF": heif.read_heif,
    "AVIF": heif.read_avif,
    "PPM": ppm.read,  # not in FORMATS: data sets may hold this format, uploads may not
}
# The readers and their libraries raise any of these for files that end early or are damaged.
DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, RuntimeError, struct.error,
)  # fmt: skip

# The readers check the caller's limit before they allocate pixels. Pillow's own limit is switched off.
Image.MAX_IMAGE_PIXELS = None


def decode(data: bytes, max_pixels: int, formats: tuple[str, ...] = FORMATS) -> bytes:
    """Decode an image file to the model's input: 32 x 32 x 3 bytes, RGB.

    Decodes the first frame, or the one that the file declares as its image (HEIC, AVIF, PNG).
    The content alone decides the format. Decoding may take seconds. Raises only ImageError.
    """
    kind = identify(data, formats)
    try:
        return fit(READERS[kind](data, max_pixels)).tobytes()
    except ImageError:
        raise
    except MemoryError as error:
        raise TooComplex("There is not enough memory to decode the image; scale it down.") from error
    except Exception as error:
        if not isinstance(error, DAMAGE) or isinstance(error, RecursionError):
            logger.exception("image decoder failed", extra={"format": kind, "bytes": len(data)})
        name = NAMES.get(kind, kind)
        raise DamagedImage(
            f"The {name} is cut short or damaged. Use the whole file, or open and save it again."
        ) from error
