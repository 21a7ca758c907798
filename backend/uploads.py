"""From an upload to pixels: bytes that a client chose, read under limits."""

import struct
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from backend.errors import (
    BrokenImage,
    EmptyUpload,
    FileTooLarge,
    NoFile,
    NotAnImage,
    RequestTooLarge,
    TooManyFiles,
    TooManyPixels,
    UploadError,
)
from backend.settings import Settings

FIELD = "file"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
INPUT_SIZE = 32  # pixels a side; the row's check and the artifact's card say the same
MAX_FILENAME = 255
SMALL_BYTES, SMALL_PIXELS = 4096, 64 * 64
# Pillow makes room for these only once their header has been checked. It makes room for a GIF's frame
# (179 MB at most, 0.1 s) and for a WebP's canvas when it opens the file; a TIFF says its sizes twice.
SMALL_FORMATS = ("JPEG", "PNG", "BMP")

# What decides how large a block of a TIFF is, and the types (SHORT, LONG) that such a tag may have.
WIDTH, LENGTH, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH = 256, 257, 278, 322, 323
BLOCK_TAGS = {WIDTH, LENGTH, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH, 258, 277}  # the last: bits, samples
BLOCK_TYPES = (3, 4)
ONE_STRIP = 2**32 - 1  # rows a strip: the format's own default, the image in one strip


@dataclass(frozen=True)
class Upload:
    """One file of a request: its name made safe to store, and its pixels or why there are none."""

    filename: str
    pixels: bytes | UploadError


async def read_files(request: Request, settings: Settings) -> list[tuple[str, bytes]]:
    """Read the multipart body under the request's size cap: each file's name and content.

    Raises NoFile, TooManyFiles or RequestTooLarge.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise NoFile(f"Send multipart/form-data with one or more parts named {FIELD!r}: -F {FIELD}=@cat.png")
    capped = Request(request.scope, _cap(request, settings.max_request_bytes))
    try:
        async with capped.form(max_files=settings.max_files, max_fields=16) as form:
            files = [part for part in form.getlist(FIELD) if isinstance(part, UploadFile)]
            if not files:
                raise NoFile(_describe_parts(form))
            return [(clean_filename(file.filename), await file.read()) for file in files]
    except HTTPException as error:  # Starlette's own, around whatever its parser raised
        if "Too many files" in error.detail:
            detail = f"At most {settings.max_files} files fit in one request; send the rest in another."
            raise TooManyFiles(detail) from error
        detail = f"The multipart body cannot be read ({error.detail}); send it as curl -F does."
        raise NoFile(detail) from error


def decode(data: bytes, settings: Settings) -> bytes:
    """An image file as the model sees it: RGB, centre-cropped, 32 x 32 x 3 bytes; of several frames, the
    first.

    The format is judged by content alone. May take seconds: not for the event loop. Raises UploadError.
    """
    return _decode(data, FORMATS, settings.max_upload_bytes, settings.max_image_pixels)


def decode_small(data: bytes, settings: Settings) -> bytes | None:
    """What `decode` gives, at once, for an image so small that a trip to a thread costs as much CPU time as
    its decoding; None for every other file.

    0.05 ms for a PNG of 32 x 32 pixels, 0.15 for a JPEG of 64 x 64; the trip costs 0.1 more. A file made to
    be slow takes 10 ms: 4 KB of PNG texts unpack to 3 MB.
    """
    max_bytes = min(SMALL_BYTES, settings.max_upload_bytes)
    if len(data) > max_bytes:
        return None
    try:
        return _decode(data, SMALL_FORMATS, max_bytes, min(SMALL_PIXELS, settings.max_image_pixels))
    except UploadError:
        return None


def _decode(data: bytes, formats: tuple[str, ...], max_bytes: int, max_pixels: int) -> bytes:
    if not data:
        raise EmptyUpload("The file has no bytes; check it and upload it again.")
    if len(data) > max_bytes:
        raise FileTooLarge(f"The file has {len(data):,} bytes; {max_bytes:,} is the limit. Shrink it.")
    try:
        with Image.open(BytesIO(data), formats=formats) as image:
            _check_pixels(image.width * image.height, max_pixels)
            if isinstance(image, TiffImageFile):
                _check_blocks(image, data, max_pixels)
            image.draft("RGB", (2 * INPUT_SIZE, 2 * INPUT_SIZE))  # JPEG decodes to near this size
            ImageOps.exif_transpose(image, in_place=True)
            return _fit(image).tobytes()
    except UploadError:
        raise
    except UnidentifiedImageError as error:
        raise NotAnImage(f"The content is none of {', '.join(FORMATS)}; convert it to one.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(_pixel_limit(max_pixels)) from error
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, LookupError, struct.error) as error:
        # Pillow raises all of these for files that end early or lie about themselves.
        raise BrokenImage("The image is cut short or damaged; open and save it again.") from error


def clean_filename(name: str | None) -> str:
    """A file name that every part of the system can store and show."""
    printable = "".join(c if c.isprintable() else "?" for c in name or "")
    printable = printable.encode("utf-8", "replace").decode()
    return printable.strip()[-MAX_FILENAME:] or "unnamed"


def _describe_parts(form: FormData) -> str:
    kinds = {True: "text", False: "file"}
    parts = [f"{name!r} ({kinds[isinstance(part, str)]})" for name, part in form.multi_items()]
    advice = f"Send each image as a file in a part named {FIELD!r}: -F {FIELD}=@cat.png."
    return f"{advice} Parts found: {', '.join(parts) or 'none'}."


def _cap(request: Request, limit: int) -> Receive:
    """The request's receive, ending the moment that more than `limit` bytes have come."""
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        received += len(message.get("body", b""))
        if received > limit:
            raise RequestTooLarge(f"A request may have {limit:,} bytes in all; send fewer files at once.")
        return message

    return receive


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
        raise BrokenImage("The TIFF's directory is not as the format has it; open and save it again.")
    width, height = tags[WIDTH], tags[LENGTH]  # as stored: `image` may be turned
    _check_pixels(tags.get(TILE_WIDTH, width) * tags.get(TILE_LENGTH, height), max_pixels)
    rows = tags.get(ROWS_PER_STRIP, ONE_STRIP)
    if rows != ONE_STRIP:
        _check_pixels(width * rows, max_pixels)


def _fit(image: Image.Image) -> Image.Image:
    """Crop and shrink first, then change colours: a large image is copied as seldom as can be."""
    if image.has_transparency_data:
        small = _shrink(image if image.mode == "RGBA" else image.convert("RGBA"))
        return Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
    if image.mode.startswith("I;16"):
        # Sixteen bits a pixel: keep the upper eight, where a plain conversion would saturate.
        return _shrink(image.convert("I")).point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if image.mode in ("I", "F"):
        return _stretch(image.convert("F")).convert("RGB")
    return _shrink(image if image.mode in ("L", "RGB") else image.convert("RGB")).convert("RGB")


def _shrink(image: Image.Image) -> Image.Image:
    if image.size == (INPUT_SIZE, INPUT_SIZE):
        return image
    return ImageOps.fit(image, (INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)  # antialiased


def _stretch(image: Image.Image) -> Image.Image:
    """Grey values of unknown range: the darkest becomes 0, the brightest 255."""
    low, high = image.getextrema()
    scale = 255 / (high - low) if high > low else 0  # pyright: ignore[reportOperatorIssue]
    return _shrink(image).point(lambda value: value * scale - low * scale).convert("L")  # pyright: ignore
