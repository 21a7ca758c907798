"""From an upload to pixels: bytes that a client chose, read under limits."""

from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from backend import errors
from backend.errors import (
    BrokenImage,
    EmptyUpload,
    FileTooLarge,
    NoFile,
    NotAnImage,
    RequestTooLarge,
    TooManyFiles,
    UploadError,
)
from backend.filenames import clean_filename
from backend.settings import Settings
from images import decode as images
from images.decode import FORMATS
from images.errors import (
    DamagedImage,
    ImageError,
    TooComplex,
    TooManyPixels,
    UnknownFormat,
    UnsupportedVariant,
)

FIELD = "file"
SMALL_BYTES, SMALL_PIXELS = 4096, 64 * 64
# Pillow makes room for these only once their header has been checked. It makes room for a GIF's frame
# (179 MB at most, 0.1 s) and for a WebP's canvas when it opens the file; a TIFF says its sizes twice.
SMALL_FORMATS = ("JPEG", "PNG", "BMP")

REFUSALS: dict[type[ImageError], type[UploadError]] = {
    UnknownFormat: NotAnImage,
    UnsupportedVariant: errors.UnsupportedVariant,
    DamagedImage: BrokenImage,
    TooManyPixels: errors.TooManyPixels,
    TooComplex: errors.TooComplex,
}


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
    """Decode an uploaded file to the model's input, 32 x 32 x 3 bytes.

    May take seconds: not for the event loop. Raises UploadError.
    """
    return _decode(data, settings.max_upload_bytes, settings.max_image_pixels)


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
        return _decode(data, max_bytes, min(SMALL_PIXELS, settings.max_image_pixels), SMALL_FORMATS)
    except UploadError:
        return None


def _decode(data: bytes, max_bytes: int, max_pixels: int, formats: tuple[str, ...] = FORMATS) -> bytes:
    if not data:
        raise EmptyUpload("The file has no bytes; check it and upload it again.")
    if len(data) > max_bytes:
        raise FileTooLarge(f"The file has {len(data):,} bytes; {max_bytes:,} is the limit. Shrink it.")
    try:
        return images.decode(data, max_pixels, formats)
    except ImageError as error:
        raise REFUSALS[type(error)](str(error)) from error


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
