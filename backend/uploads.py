"""Uploads: read and decode their files under limits."""

import asyncio
from collections.abc import Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from backend.decoders import Decoders, OverLimits
from backend.errors import FileRefused, Refusal, ServiceError
from backend.forms import read_files
from backend.settings import Settings
from images import errors
from images.decode import decode
from images.errors import ImageError

SMALL_BYTES, SMALL_PIXELS = 4096, 64 * 64
SMALL_FORMATS = ("JPEG", "PNG", "BMP")
# When an upload has taken this long, its other files are refused, except small ones. The proxy waits 75 s.
REQUEST_SECONDS = 45

REFUSALS: dict[type[ImageError], Refusal] = {
    errors.UnknownFormat: Refusal.NOT_AN_IMAGE,
    errors.UnsupportedVariant: Refusal.UNSUPPORTED_VARIANT,
    errors.DamagedImage: Refusal.DAMAGED_IMAGE,
    errors.TooManyPixels: Refusal.TOO_MANY_PIXELS,
    errors.TooComplex: Refusal.TOO_COSTLY,
    OverLimits: Refusal.TOO_COSTLY,
}


@dataclass(frozen=True)
class UploadedFile:
    """One file of a request: its cleaned name, and its pixels or the reason for which it is refused."""

    filename: str
    pixels: bytes | FileRefused


class UploadReader:
    """Reads the files of uploads, and limits the bytes that this backend holds for them."""

    def __init__(self, settings: Settings, decoders: Decoders) -> None:
        self._settings = settings
        self._decoders = decoders
        self.held_bytes = 0
        """The bytes reserved for requests that are being read: at most `max_upload_bytes` for each."""

    async def read(self, request: Request) -> list[UploadedFile]:
        """Read the files of a request. Each is decoded or refused before more of the body is read.

        Raises TOO_MANY_UPLOADS, and what `read_files` and `Decoders.decode` raise.
        """
        files: list[UploadedFile] = []
        end = asyncio.get_running_loop().time() + REQUEST_SECONDS
        with self._hold(request):
            async with aclosing(read_files(request, self._settings)) as parts:
                async for filename, content in parts:
                    if isinstance(content, bytes):
                        content = await decode_file(content, self._settings, self._decoders, end)
                    files.append(UploadedFile(filename, content))
        return files

    @contextmanager
    def _hold(self, request: Request) -> Generator[None]:
        """Reserve memory before the body is read. If no other request is being read, this one is accepted."""
        limit = self._settings.max_pending_bytes
        announced = int(request.headers.get("content-length", self._settings.max_request_bytes))
        size = min(announced, self._settings.max_upload_bytes)
        if self.held_bytes and self.held_bytes + size > limit:
            detail = "Too many bytes of other uploads are being read. Try again in a few seconds."
            raise ServiceError(Refusal.TOO_MANY_UPLOADS, detail)
        self.held_bytes += size
        try:
            yield
        finally:
            self.held_bytes -= size


async def decode_file(data: bytes, settings: Settings, decoders: Decoders, end: float) -> bytes | FileRefused:
    """Decode a small JPEG, PNG or BMP here, others in a decoder process, until `end` by the loop's clock."""
    if not data:
        return FileRefused(Refusal.EMPTY_FILE, "The file has no bytes. Check it and upload it again.")
    if (pixels := decode_small(data, settings)) is not None:
        await asyncio.sleep(0)  # let other requests run between many small files
        return pixels
    try:
        async with asyncio.timeout_at(end):
            pixels = await decoders.decode(data)
    except TimeoutError:
        detail = (
            f"The time limit for one request ({REQUEST_SECONDS} s) ended before this file was decoded. "
            "Upload it again."
        )
        return FileRefused(Refusal.NOT_IN_TIME, detail)
    return pixels if isinstance(pixels, bytes) else FileRefused(REFUSALS[type(pixels)], str(pixels))


def decode_small(data: bytes, settings: Settings) -> bytes | None:
    """The pixels of a small JPEG, PNG or BMP; None if it is damaged, and for every other file.

    Decoding a PNG of 32 x 32 pixels takes 0.05 ms, a JPEG of 64 x 64 pixels 0.15 ms. A decoder process would
    add 0.1 ms.
    """
    if len(data) > min(SMALL_BYTES, settings.max_upload_bytes):
        return None
    try:
        return decode(data, min(SMALL_PIXELS, settings.max_image_pixels), SMALL_FORMATS)
    except ImageError:
        return None
