"""Decode one image file under limits."""

import logging
import struct
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from images.errors import DamagedImage, ImageError, TooManyPixels, UnknownFormat
from images.fit import INPUT_SIZE, fit

logger = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

# What decides how large a block of a TIFF is, and the types (SHORT, LONG) that such a tag may have.
WIDTH, LENGTH, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH = 256, 257, 278, 322, 323
BLOCK_TAGS = {WIDTH, LENGTH, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH, 258, 277}  # the last: bits, samples
BLOCK_TYPES = (3, 4)
ONE_STRIP = 2**32 - 1  # rows a strip: the format's own default, the image in one strip


def decode(data: bytes, max_pixels: int, formats: tuple[str, ...] = FORMATS) -> bytes:
    """Decode an image file to the model's input: 32 x 32 x 3 bytes, RGB; of several frames, the first.

    The format is judged by content alone. May take seconds. Raises ImageError and nothing else.
    """
    try:
        with Image.open(BytesIO(data), formats=formats) as image:
            _check_pixels(image.width * image.height, max_pixels)
            if isinstance(image, TiffImageFile):
                _check_blocks(image, data, max_pixels)
            image.draft("RGB", (2 * INPUT_SIZE, 2 * INPUT_SIZE))  # JPEG decodes to near this size
            ImageOps.exif_transpose(image, in_place=True)
            return fit(image).tobytes()
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnknownFormat(f"The content is none of {', '.join(formats)}; convert it to one.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(_pixel_limit(max_pixels)) from error
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, LookupError, struct.error) as error:
        # Pillow raises all of these for files that end early or lie about themselves.
        raise DamagedImage("The image is cut short or damaged; open and save it again.") from error


def _check_pixels(count: int, max_pixels: int) -> None:
    if count > max_pixels:
        raise TooManyPixels(_pixel_limit(max_pixels))


def _pixel_limit(max_pixels: int) -> str:
    return f"Width times height may be {max_pixels:,} at most; scale the image down."


def _check_blocks(image: TiffImageFile, data: bytes, max_pixels: int) -> None:
    """Hold a TIFF's tiles and strips to the limit of an image: each is given its full size in memory, however
    small the image.

    libtiff reads the directory anew and knows more types of number than Pillow. A tag that the two could read
    differently is refused, so what Pillow has read is what libtiff will do.
    """
    tags = image.tag_v2
    order = "<" if data.startswith(b"II") else ">"
    count_format, entry_bytes = ("Q", 20) if data[2] == 43 else ("H", 12)  # 43: BigTIFF
    (count,) = struct.unpack_from(order + count_format, data, tags.offset)
    first = tags.offset + struct.calcsize(count_format)
    entries = (struct.unpack_from(order + "HH", data, first + n * entry_bytes) for n in range(count))
    types = [(tag, type) for tag, type in entries if tag in BLOCK_TAGS]
    if len(dict(types)) < len(types) or any(
        tag not in tags or type not in BLOCK_TYPES for tag, type in types
    ):
        raise DamagedImage("The TIFF's directory is not as the format has it; open and save it again.")
    width, height = tags[WIDTH], tags[LENGTH]  # as stored: `image` may be turned
    _check_pixels(tags.get(TILE_WIDTH, width) * tags.get(TILE_LENGTH, height), max_pixels)
    rows = tags.get(ROWS_PER_STRIP, ONE_STRIP)
    if rows != ONE_STRIP:
        _check_pixels(width * rows, max_pixels)
