"""The multipart body of an upload. It is parsed as it arrives, with one file in memory at a time."""

from collections.abc import AsyncGenerator
from email.message import Message
from email.utils import collapse_rfc2231_value

from multipart import MultipartError, MultipartSegment, PushMultipartParser
from starlette.requests import Request

from backend.errors import FileRefused, Refusal, ServiceError
from backend.filenames import clean_filename
from backend.header_fields import read_list
from backend.settings import Settings

FIELD = "file"
MAX_OTHER_PARTS = 1000
MAX_HEADERS = 100  # of one part. Browsers send two headers, mail and batch tools send about twelve.
MAX_HEADER_BYTES = 16 * 1024  # of one header; a name of 255 characters takes up to 3 kB in `filename*`
SHOWN_PARTS, SHOWN_CHARACTERS = 10, 40  # in an error text: parts, and characters of a part's name
MALFORMED = (LookupError, TypeError, ValueError)  # errors of `email` for malformed parameters
ENCODINGS = {"", "binary", "8bit", "7bit"}  # encodings that leave the bytes as they are


class FilePart:
    """One file of a request while it arrives."""

    def __init__(self, segment: MultipartSegment, filename: str | None, max_bytes: int) -> None:
        self._filename = clean_filename(filename)
        self._encoding = dict(segment.headerlist).get("Content-Transfer-Encoding", "").strip().lower()
        self._max_bytes = max_bytes
        self._size = 0
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= self._max_bytes:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def finish(self) -> tuple[str, bytes | FileRefused]:
        """The name of the file, and its content or the error for which it is refused."""
        content = b"".join(self._chunks)
        self._chunks.clear()
        if self._size > self._max_bytes:
            detail = f"The file has {self._size:,} bytes. The limit is {self._max_bytes:,}. Make it smaller."
            return self._filename, FileRefused(Refusal.FILE_TOO_LARGE, detail)
        if self._encoding not in ENCODINGS:
            detail = (
                f"The part has the Content-Transfer-Encoding {self._encoding!r}. Send its bytes unencoded."
            )
            return self._filename, FileRefused(Refusal.NOT_AN_IMAGE, detail)
        return self._filename, content


async def read_files(request: Request, settings: Settings) -> AsyncGenerator[tuple[str, bytes | FileRefused]]:
    """Yield each file of a multipart request when it is complete: its name, and its content or the error for
    which it is refused. Raises NO_FILE, TOO_MANY_FILES or REQUEST_TOO_LARGE.
    """
    # As Latin-1, each byte of a header becomes one character. `decode_text` then finds the real charset.
    parser = PushMultipartParser(
        read_boundary(request),
        max_header_count=MAX_HEADERS,
        max_header_size=MAX_HEADER_BYTES,
        header_charset="latin-1",
    )
    count, others = 0, list[str]()
    part: FilePart | None = None
    try:
        async for chunk in read_body(request, settings.max_request_bytes):
            for event in parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    part = begin_file(event, settings.max_upload_bytes, others)
                    count += part is not None
                    if count > settings.max_files:
                        most = settings.max_files
                        detail = (
                            f"One request can have at most {most} files. Send the others in another request."
                        )
                        raise ServiceError(Refusal.TOO_MANY_FILES, detail)
                elif part is not None and event is not None:
                    part.add(event)
                elif part is not None:
                    yield part.finish()
        parser.close()
    except MultipartError as error:
        detail = f"The multipart body cannot be read ({error}). Send it as curl -F does."
        raise ServiceError(Refusal.NO_FILE, detail) from None
    if not count:
        raise ServiceError(Refusal.NO_FILE, describe_parts(others))


def read_boundary(request: Request) -> bytes:
    """The boundary between parts. Raises NO_FILE if there is none, or if the body has an encoding."""
    head = Message()
    head["Content-Type"] = request.headers.get("content-type", "")
    if head.get_content_type() != "multipart/form-data":
        detail = f"Send multipart/form-data with one or more parts named {FIELD!r}: -F {FIELD}=@cat.png"
        raise ServiceError(Refusal.NO_FILE, detail)
    listed = read_list(request.headers.getlist("content-encoding"))
    if codings := ", ".join(coding.name for coding in listed if coding.name != "identity"):
        detail = f"The body has the Content-Encoding {codings!r}. Send it without an encoding."
        raise ServiceError(Refusal.NO_FILE, detail)
    try:
        boundary = head.get_boundary()
    except MALFORMED:
        boundary = None
    if not boundary:
        detail = "The Content-Type has no boundary. Let curl -F or the browser's FormData write this header."
        raise ServiceError(Refusal.NO_FILE, detail)
    return boundary.encode("utf-8", "surrogateescape")


async def read_body(request: Request, limit: int) -> AsyncGenerator[bytes]:
    """The body in chunks. Raises REQUEST_TOO_LARGE when more than `limit` bytes are announced or received."""
    received = 0
    detail = f"A request can have at most {limit:,} bytes. Send fewer files at once."
    if int(request.headers.get("content-length", 0)) > limit:
        raise ServiceError(Refusal.REQUEST_TOO_LARGE, detail)
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise ServiceError(Refusal.REQUEST_TOO_LARGE, detail)
        if chunk:
            yield chunk


def begin_file(segment: MultipartSegment, max_bytes: int, others: list[str]) -> FilePart | None:
    """The file that this part starts. If the part is not a file or is not named FIELD, adds its name to
    `others` and returns None. Raises REQUEST_TOO_LARGE if there are too many others.

    A part without a file name is a file if its Content-Type is not text.
    """
    name, filename = decode_text(segment.name or ""), read_filename(segment)
    is_file = filename is not None or not (segment.content_type or "text/plain").startswith("text/")
    if is_file and name == FIELD:
        return FilePart(segment, filename, max_bytes)
    if len(others) == MAX_OTHER_PARTS:
        detail = (
            f"The request has more than {MAX_OTHER_PARTS:,} parts that are not files or not named {FIELD!r}. "
            "Remove them."
        )
        raise ServiceError(Refusal.REQUEST_TOO_LARGE, detail)
    others.append(f"{name[:SHOWN_CHARACTERS]!r} ({'file' if is_file else 'text'})")
    return None


def read_filename(segment: MultipartSegment) -> str | None:
    """The file name from the client. `filename*` (RFC 5987) takes precedence over `filename`."""
    header = dict(segment.headerlist)["Content-Disposition"]
    if segment.filename is not None and 'filename="' in header.lower() and "filename*" not in header.lower():
        return decode_text(segment.filename)  # browsers write " as %22, which the parser decodes
    head = Message()
    head["Content-Disposition"] = header
    try:
        given = head.get_params([], "content-disposition")
        names = [value for name, value in given if name.lower() == "filename"]
        for name in names:
            if isinstance(name, tuple):  # from `filename*`: charset, language, text
                return collapse_rfc2231_value(name)
    except MALFORMED:
        return decode_text(segment.filename or "")
    return decode_text(names[0]) if names else None


def decode_text(text: str) -> str:
    """Decode text whose bytes were read as Latin-1: as UTF-8, else as Windows-1252, else as Latin-1."""
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
