"""From an upload to pixels: bytes that a client chose, read and decoded under limits."""

import asyncio
from collections.abc import Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from backend import errors
from backend.decoders import Decoders, OverLimits
from backend.errors import BrokenImage, EmptyUpload, NotAnImage, OutOfTime, TooManyUploads, UploadError
from backend.forms import read_files
from backend.settings import Settings
from images.decode import decode
from images.errors import (
    DamagedImage,
    ImageError,
    TooComplex,
    TooManyPixels,
    UnknownFormat,
    UnsupportedVariant,
)

SMALL_BYTES, SMALL_PIXELS = 4096, 64 * 64
SMALL_FORMATS = ("JPEG", "PNG", "BMP")
# For all files of a request that need a process: the proxy waits 75 s for the answer.
REQUEST_SECONDS = 45

REFUSALS: dict[type[ImageError], type[UploadError]] = {
    UnknownFormat: NotAnImage,
    UnsupportedVariant: errors.UnsupportedVariant,
    DamagedImage: BrokenImage,
    TooManyPixels: errors.TooManyPixels,
    TooComplex: errors.TooCostly,
    OverLimits: errors.TooCostly,
}


@dataclass(frozen=True)
class Upload:
    """One file of a request: its name made safe to store, and its pixels or why there are none."""

    filename: str
    pixels: bytes | UploadError


class Uploading:
    """How many bytes of uploads this backend holds: those of the files that wait for a decoder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.held = 0

    @contextmanager
    def hold(self, request: Request) -> Generator[None]:
        """Reserve what a request will hold, before its body is read. Raises TooManyUploads.

        One file at a time, so no more than a file may have. A request that comes alone is always let in.
        """
        limit = self._settings.max_pending_bytes
        announced = int(request.headers.get("content-length", self._settings.max_request_bytes))
        size = min(announced, self._settings.max_upload_bytes)
        if self.held and self.held + size > limit:
            detail = f"Uploads of {self.held:,} bytes are being decoded already; try again in a few seconds."
            raise TooManyUploads(detail)
        self.held += size
        try:
            yield
        finally:
            self.held -= size


async def read_uploads(request: Request, settings: Settings, decoders: Decoders) -> list[Upload]:
    """Read a request's files; each is decoded, or refused by itself, before more of the body is read."""
    uploads: list[Upload] = []
    end = asyncio.get_running_loop().time() + REQUEST_SECONDS
    async with aclosing(read_files(request, settings)) as files:
        async for filename, content in files:
            pixels = (
                content
                if isinstance(content, UploadError)
                else await decode_file(content, settings, decoders, end)
            )
            uploads.append(Upload(filename, pixels))
    return uploads


async def decode_file(data: bytes, settings: Settings, decoders: Decoders, end: float) -> bytes | UploadError:
    """Decode a file, at once if it is small, else in a process, which is given up at the time `end`."""
    if not data:
        return EmptyUpload("The file has no bytes; check it and upload it again.")
    if (pixels := decode_small(data, settings)) is not None:
        await asyncio.sleep(0)  # many small files in one request do not keep the others waiting
        return pixels
    try:
        async with asyncio.timeout_at(end):
            pixels = await decoders.decode(data)
    except TimeoutError:
        detail = (
            f"The files of one request are decoded for {REQUEST_SECONDS} s at most; this file's turn did not "
            "come, since many large images are being decoded. Send it again, with fewer others."
        )
        return OutOfTime(detail)
    return pixels if isinstance(pixels, bytes) else REFUSALS[type(pixels)](str(pixels))


def decode_small(data: bytes, settings: Settings) -> bytes | None:
    """Decode, at once, an image so small that the trip to a decoder process costs as much CPU time as its
    decoding; None for every other file.

    0.05 ms for a PNG of 32 x 32 pixels, 0.15 for a JPEG of 64 x 64; the trip costs 0.1 more.
    """
    if len(data) > min(SMALL_BYTES, settings.max_upload_bytes):
        return None
    try:
        return decode(data, min(SMALL_PIXELS, settings.max_image_pixels), SMALL_FORMATS)
    except ImageError:
        return None
