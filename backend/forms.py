"""The multipart body of an upload, read as it comes: one file is in memory at a time."""

import re
from collections.abc import AsyncGenerator
from email.message import Message
from email.utils import collapse_rfc2231_value

from multipart import MultipartError, MultipartSegment, PushMultipartParser
from starlette.requests import Request

from backend.errors import FileTooLarge, NoFile, NotAnImage, RequestTooLarge, TooManyFiles, UploadError
from backend.filenames import clean_filename
from backend.settings import Settings

FIELD = "file"
MAX_OTHER_PARTS = 1000
MAX_HEADER_BYTES = 16 * 1024  # of a part; a name of 255 characters takes up to 9 kB in `filename*`
SHOWN_PARTS, SHOWN_CHARACTERS = 10, 40  # in an error
MALFORMED = (LookupError, TypeError, ValueError)  # of `email`, for parameters that make no sense
# As browsers, curl and most libraries write it; `email` takes 12 µs for it.
PLAIN_TYPE = re.compile(r"multipart/form-data; boundary=([\w-]{1,70})", re.ASCII)
ENCODINGS = {"binary", "8bit", "7bit"}  # those that change nothing


class FilePart:
    """One file of a request, while it comes."""

    def __init__(self, segment: MultipartSegment, filename: str | None, max_bytes: int) -> None:
        self._filename = clean_filename(filename)
        self._encoding = dict(segment.headerlist).get("Content-Transfer-Encoding", "binary").strip().lower()
        self._max_bytes = max_bytes
        self._size = 0
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= self._max_bytes:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def finish(self) -> tuple[str, bytes | UploadError]:
        """The file's name, and its content or why that is refused."""
        content = b"".join(self._chunks)
        self._chunks.clear()
        if self._size > self._max_bytes:
            detail = f"The file has {self._size:,} bytes; {self._max_bytes:,} is the limit. Shrink it."
            return self._filename, FileTooLarge(detail)
        if self._encoding not in ENCODINGS:
            detail = (
                f"The part has the Content-Transfer-Encoding {self._encoding!r}; send its bytes as they are."
            )
            return self._filename, NotAnImage(detail)
        return self._filename, content


async def read_files(request: Request, settings: Settings) -> AsyncGenerator[tuple[str, bytes | UploadError]]:
    """The files of a multipart request, each as soon as it is complete: its name, and its content or why that
    is refused. Raises NoFile, TooManyFiles or RequestTooLarge.
    """
    # Read as Latin-1 each byte of a header is one character; `decode_text` finds out which was meant.
    parser = PushMultipartParser(
        read_boundary(request), max_header_size=MAX_HEADER_BYTES, header_charset="latin-1"
    )
    count, others = 0, list[str]()
    part: FilePart | None = None
    try:
        async for chunk in read_body(request, settings.max_request_bytes):
            for event in parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    part = begin(event, settings.max_upload_bytes, others)
                    count += part is not None
                    if count > settings.max_files:
                        most = settings.max_files
                        raise TooManyFiles(
                            f"At most {most} files fit in one request; send the rest in another."
                        )
                elif part is not None and event is not None:
                    part.add(event)
                elif part is not None:
                    yield part.finish()
        parser.close()
    except MultipartError as error:
        detail = f"The multipart body cannot be read ({error}); send it as curl -F does."
        raise NoFile(detail) from None
    if not count:
        raise NoFile(describe_parts(others))


def read_boundary(request: Request) -> bytes:
    """What is between the parts. Raises NoFile if the request is no multipart form."""
    content_type = request.headers.get("content-type", "")
    boundary = found[1] if (found := PLAIN_TYPE.fullmatch(content_type)) else parse_boundary(content_type)
    if (coding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise NoFile(f"The body has the Content-Encoding {coding!r}; send it as it is, without one.")
    if not boundary:
        detail = "The Content-Type has no boundary; let curl -F or the browser's FormData write this header."
        raise NoFile(detail)
    return boundary.encode("utf-8", "surrogateescape")


def parse_boundary(content_type: str) -> str | None:
    """The boundary that any Content-Type names. Raises NoFile if it is of no multipart form."""
    head = Message()
    head["Content-Type"] = content_type
    if head.get_content_type() != "multipart/form-data":
        raise NoFile(f"Send multipart/form-data with one or more parts named {FIELD!r}: -F {FIELD}=@cat.png")
    try:
        return head.get_boundary()
    except MALFORMED:
        return None


async def read_body(request: Request, limit: int) -> AsyncGenerator[bytes]:
    """The body in chunks. Raises RequestTooLarge as soon as more than `limit` bytes are announced or come."""
    received = 0
    detail = f"A request may have {limit:,} bytes in all; send fewer files at once."
    if int(request.headers.get("content-length", 0)) > limit:
        raise RequestTooLarge(detail)
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise RequestTooLarge(detail)
        if chunk:
            yield chunk


def begin(segment: MultipartSegment, max_bytes: int, others: list[str]) -> FilePart | None:
    """The file that a part holds; any other part is noted in `others`. Raises RequestTooLarge.

    A part without a file name is a file if its Content-Type says so.
    """
    name, filename = decode_text(segment.name or ""), read_filename(segment)
    is_file = filename is not None or not (segment.content_type or "text/plain").startswith("text/")
    if is_file and name == FIELD:
        return FilePart(segment, filename, max_bytes)
    if len(others) == MAX_OTHER_PARTS:
        detail = f"At most {MAX_OTHER_PARTS:,} other fields may come with the files; leave them out."
        raise RequestTooLarge(detail)
    others.append(f"{name[:SHOWN_CHARACTERS]!r} ({'file' if is_file else 'text'})")
    return None


def read_filename(segment: MultipartSegment) -> str | None:
    """The name that the client gave its file. `filename*` (RFC 5987) goes before `filename`, if both come."""
    header = dict(segment.headerlist)["Content-Disposition"]
    if segment.filename is not None and 'filename="' in header.lower() and "filename*" not in header.lower():
        return decode_text(segment.filename)
    head = Message()
    head["Content-Disposition"] = header
    try:
        given = head.get_params([], "content-disposition")
        names = [value for name, value in given if name.lower() == "filename"]
        for name in names:
            if isinstance(name, tuple):  # of `filename*`: charset, language, text
                return collapse_rfc2231_value(name)
    except MALFORMED:
        return segment.filename or ""
    return decode_text(names[0]) if names else None


def decode_text(text: str) -> str:
    """Text whose bytes were read as Latin-1: it is UTF-8, or else what Windows calls Latin-1."""
    for charset in ("utf-8", "cp1252"):
        try:
            return text.encode("latin-1").decode(charset)
        except UnicodeError:
            continue
    return text


def describe_parts(others: list[str]) -> str:
    advice = f"Send each image as a file in a part named {FIELD!r}: -F {FIELD}=@cat.png."
    more = f" and {len(others) - SHOWN_PARTS:,} more" if len(others) > SHOWN_PARTS else ""
    return f"{advice} Parts found: {', '.join(others[:SHOWN_PARTS]) or 'none'}{more}."
