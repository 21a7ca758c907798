"""Multipart bodies: the notations of many clients, and bodies that are refused."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from backend.errors import FileRefused, Refusal
from backend.forms import read_files
from backend.settings import Settings
from tests.backend.conftest import refuses

SETTINGS = Settings.model_validate(
    {
        "database_url": "postgresql://x",
        "broker_url": "amqp://x",
        "max_upload_bytes": 2000,
        "max_request_bytes": 500_000,
        "max_files": 3,
    }
)
FORM = "multipart/form-data; boundary=XcasesX"
END = b"--XcasesX--\r\n"


def part(disposition: str | bytes, content: bytes = b"pixels", *headers: str) -> bytes:
    if isinstance(disposition, str):
        disposition = disposition.encode()
    lines = [b"--XcasesX", b"Content-Disposition: form-data; " + disposition, *(h.encode() for h in headers)]
    return b"\r\n".join([*lines, b"", content, b""])


CAT = part('name="file"; filename="cat.png"')


async def read(
    body: bytes,
    content_type: str = FORM,
    *,
    chunk: int = 10**6,
    content_encodings: Sequence[str] = (),
) -> Any:
    """Read a body that arrives in chunks of this size."""
    headers = [(b"content-type", content_type.encode("latin-1"))]
    headers += [(b"content-encoding", coding.encode()) for coding in content_encodings]

    def messages() -> Iterator[Message]:
        for start in range(0, len(body), chunk):
            yield {"type": "http.request", "body": body[start : start + chunk], "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    arriving = messages()

    async def receive() -> Message:
        return next(arriving)

    request = Request({"type": "http", "headers": headers}, receive)
    return [file async for file in read_files(request, SETTINGS)]


@pytest.mark.parametrize(
    "content_type",
    [
        "MULTIPART/FORM-DATA; boundary=XcasesX",
        "Multipart/Form-Data;boundary=XcasesX",
        'multipart/form-data; charset=utf-8; boundary="XcasesX"',
        "multipart/form-data; BOUNDARY=XcasesX; charset=utf-8",
        "multipart/form-data ; boundary = XcasesX",
        "multipart/form-data;\tboundary=XcasesX",
    ],
)
async def test_a_content_type_may_have_different_notations(content_type: str) -> None:
    assert await read(CAT + END, content_type) == [("cat.png", b"pixels")]


@pytest.mark.parametrize("boundary", ["----=_Part_7", "a/b:c?d", "with space", "'()+_,-./:=?"])
async def test_a_boundary_may_hold_all_characters_of_the_standard(boundary: str) -> None:
    body = (CAT + END).replace(b"XcasesX", boundary.encode())
    assert await read(body, f'multipart/form-data; boundary="{boundary}"') == [("cat.png", b"pixels")]


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
@pytest.mark.parametrize(
    "before", [b"", b"\r\n", b"This is a message in several parts.\r\n", b"x" * 999 + b"\r\n"]
)
@pytest.mark.parametrize("after", [b"", b"\r\n", b"the end\r\n--XcasesX", b"x" * 999])
async def test_text_before_the_first_boundary_and_after_the_closing_one_is_ignored(
    before: bytes, after: bytes, chunk: int
) -> None:
    assert await read(before + CAT + CAT + END + after, chunk=chunk) == [("cat.png", b"pixels")] * 2


@pytest.mark.parametrize("content", [b"", b"\r\n", b"\r\n--Xcases", b"--XcasesY\r\n", bytes(range(256)) * 4])
@pytest.mark.parametrize("chunk", [1, 10**6])
async def test_a_file_is_read_byte_for_byte(content: bytes, chunk: int) -> None:
    body = part('name="file"; filename="a"', content) + END
    assert await read(body, chunk=chunk) == [("a", content)]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="file"; filename="cat.png"', "cat.png"),
        ("name=file; filename=cat.png", "cat.png"),
        ('filename="cat.png"; name="file"', "cat.png"),
        ('NAME="file"; FileName="cat.png"', "cat.png"),
        ('name="file"; filename=""', "unnamed"),
        ('name="file"; filename="Kätzchen 🐈.png"', "Kätzchen 🐈.png"),
        ('name="file"; filename=Kätzchen.png', "Kätzchen.png"),
        ('name="file"; filename="Kätzchen.png"'.encode("latin-1"), "Kätzchen.png"),
        ('name="file"; filename="“100 €”.png"'.encode("cp1252"), "“100 €”.png"),
        ('name="file"; filename="a%22b%22.png"', 'a"b".png'),
        ('name="file"; filename="a%0D%0Ab.png"', "a??b.png"),
        ('name="file"; filename="100%25 %41.png"', "100%25 %41.png"),
        ('name="file"; filename="a\\"b.png"', 'a"b.png'),
        ('name="file"; filename="a;b=c.png"', "a;b=c.png"),
        ('name="file"; filename="C:\\fakepath\\cat.png"', "cat.png"),
        ('name="file"; filename="pets/cat.png"', "cat.png"),
        ("name=\"file\"; filename*=UTF-8''K%C3%A4tzchen%20%F0%9F%90%88.png", "Kätzchen 🐈.png"),
        ("name=\"file\"; filename*=utf-8'de'K%C3%A4tzchen.png", "Kätzchen.png"),
        ("name=\"file\"; filename*=iso-8859-1''K%E4tzchen.png", "Kätzchen.png"),
        ('name="file"; filename="K_tzchen.png"; filename*=UTF-8\'\'K%C3%A4tzchen.png', "Kätzchen.png"),
        ('name="file"; filename*=UTF-8\'\'K%C3%A4tzchen.png; filename="K_tzchen.png"', "Kätzchen.png"),
        ("name=\"file\"; filename*=no-such-charset''cat.png", "cat.png"),
        ('name="file"; filename*0="cat"; filename*1=".png"', "cat.png"),
        ('name="file"; filename="Kätzchen.png"; filename*=idna\'\'%ff', "Kätzchen.png"),
        ('name="file"; filename="=?utf-8?B?S8OkdHpjaGVuLnBuZw==?="', "Kätzchen.png"),
    ],
)
async def test_a_file_name_may_have_different_notations(disposition: str | bytes, name: str) -> None:
    assert await read(part(disposition) + END) == [(name, b"pixels")]


async def test_a_part_without_a_file_name_is_a_file_if_its_type_is_not_text() -> None:
    body = part('name="file"', b"pixels", "Content-Type: image/png") + END
    assert await read(body) == [("unnamed", b"pixels")]


@pytest.mark.parametrize("count", [1, 8, 9, 40, 99])
async def test_a_part_may_have_headers_that_are_not_read(count: int) -> None:
    headers = (f"X-Header-{number}: {'x' * 999}" for number in range(count))
    assert await read(part('name="file"; filename="a"', b"pixels", *headers) + END) == [("a", b"pixels")]


@pytest.mark.parametrize("before", [1, 16, 17, 40, 1000])
async def test_up_to_1000_other_fields_before_and_after_a_file_are_ignored(before: int) -> None:
    fields = [part(f'name="meta{number}"', b"x") for number in range(1000)]
    body = b"".join([*fields[:before], CAT, *fields[before:], END])
    assert await read(body) == [("cat.png", b"pixels")]


@pytest.mark.parametrize(
    ("body", "content_type", "refusal", "words"),
    [
        (
            part('name="meta"', b"x") * 1001 + CAT + END,
            FORM,
            Refusal.REQUEST_TOO_LARGE,
            ["more than 1,000 parts that are not files or not named"],
        ),
        (CAT * 4 + END, FORM, Refusal.TOO_MANY_FILES, ["3 files"]),
        (CAT + b"x" * 500_000, FORM, Refusal.REQUEST_TOO_LARGE, ["500,000 bytes"]),
        (part('name="file"') + END, FORM, Refusal.NO_FILE, ["'file' (text)", "-F file=@cat.png"]),
        (
            part('name="image"; filename="a"') * 12 + END,
            FORM,
            Refusal.NO_FILE,
            ["'image' (file)", "and 2 more"],
        ),
        (part('name="' + "x" * 999 + '"') + END, FORM, Refusal.NO_FILE, ["x" * 40 + "' (text)"]),
        (END, FORM, Refusal.NO_FILE, ["Parts found: none"]),
        (b"", FORM, Refusal.NO_FILE, ["end"]),
        (CAT, FORM, Refusal.NO_FILE, ["end"]),
        (CAT[:-10], FORM, Refusal.NO_FILE, ["end"]),
        (CAT.replace(b"\r\n", b"\n") + END, FORM, Refusal.NO_FILE, ["line break"]),
        (b"--XcasesX\r\nX: 1\r\n\r\nx\r\n" + END, FORM, Refusal.NO_FILE, ["Content-Disposition"]),
        (part('name="file"; filename="' + "x" * 20_000) + END, FORM, Refusal.NO_FILE, ["header length"]),
        (
            part('name="file"; filename="a"', b"x", *["X: 1"] * 100) + END,
            FORM,
            Refusal.NO_FILE,
            ["header count"],
        ),
        (CAT + END, "multipart/form-data", Refusal.NO_FILE, ["no boundary", "FormData"]),
        (CAT + END, "multipart/form-data; boundary=other", Refusal.NO_FILE, ["cannot be read"]),
        (CAT + END, "multipart/mixed; boundary=XcasesX", Refusal.NO_FILE, ["multipart/form-data"]),
        (CAT + END, "application/octet-stream", Refusal.NO_FILE, ["multipart/form-data"]),
        (CAT + END, "", Refusal.NO_FILE, ["multipart/form-data"]),
    ],
)
async def test_the_refusal_of_a_body_gives_the_reason(
    body: bytes, content_type: str, refusal: Refusal, words: list[str]
) -> None:
    with refuses(refusal) as refused:
        await read(body, content_type, chunk=10_000)
    assert all(word in refused.value.detail for word in words), refused.value.detail
    assert len(refused.value.detail) < 700


async def read_head(*headers: tuple[bytes, bytes]) -> None:
    """Read a request, and fail the test if its body is read."""

    async def receive() -> Message:
        pytest.fail("the body was read")

    request = Request({"type": "http", "headers": [(b"content-type", FORM.encode()), *headers]}, receive)
    _ = [file async for file in read_files(request, SETTINGS)]


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["GZIP"], "gzip"),
        (["x-gzip , br"], "x-gzip, br"),
        (["identity", "gzip"], "gzip"),
        (["aws-chunked"], "aws-chunked"),
    ],
)
async def test_an_encoded_body_is_refused_with_the_name_of_its_encoding(lines: list[str], named: str) -> None:
    with refuses(Refusal.NO_FILE, rf"Content-Encoding '{named}'\. Send it without"):
        await read_head(*((b"content-encoding", line.encode()) for line in lines))


@pytest.mark.parametrize("lines", [[""], ["Identity "], ["identity, ,identity"], ["", "identity"]])
async def test_a_content_encoding_without_effect_is_accepted(lines: list[str]) -> None:
    assert await read(CAT + END, content_encodings=lines) == [("cat.png", b"pixels")]


async def test_an_announced_body_that_is_too_large_is_refused_before_it_is_read() -> None:
    with refuses(Refusal.REQUEST_TOO_LARGE):
        await read_head((b"content-length", b"500001"))


async def test_a_file_that_is_too_large_is_refused_alone() -> None:
    large = part('name="file"; filename="large"', bytes(2001))
    fits = part('name="file"; filename="fits"', bytes(2000))
    first, second, third = await read(large + fits + CAT + END, chunk=100)
    assert isinstance(first[1], FileRefused)
    assert first[1].refusal is Refusal.FILE_TOO_LARGE
    assert "2,001 bytes. The limit is 2,000" in first[1].detail
    assert (second, third) == (("fits", bytes(2000)), ("cat.png", b"pixels"))


@pytest.mark.parametrize("encoding", ["base64", "Quoted-Printable", "x-gzip"])
async def test_a_file_that_is_encoded_for_transfer_is_refused_alone(encoding: str) -> None:
    encoded = part('name="file"; filename="a"', b"cGl4ZWxz", f"Content-Transfer-Encoding: {encoding}")
    first, second = await read(encoded + CAT + END)
    assert isinstance(first[1], FileRefused)
    assert first[1].refusal is Refusal.NOT_AN_IMAGE
    assert encoding.lower() in first[1].detail
    assert second == ("cat.png", b"pixels")


@pytest.mark.parametrize("encoding", ["binary", "8BIT", "7bit", ""])
async def test_a_transfer_encoding_without_effect_is_accepted(encoding: str) -> None:
    body = part('name="file"; filename="a"', b"pixels", f"Content-Transfer-Encoding: {encoding}")
    assert await read(body + END) == [("a", b"pixels")]


@pytest.mark.parametrize(
    "parameters",
    [
        "filename*=undefined''a",
        "filename*0=a; filename*0*=b; filename*=c",
        f"filename*{'9' * 5000}=a",
        "filename*",
    ],
)
async def test_malformed_parameters_cause_no_unexpected_error(parameters: str) -> None:
    (file,) = await read(part(f'name="file"; filename="cat.png"; {parameters}') + END)
    assert file[1] == b"pixels"
    with refuses(Refusal.NO_FILE):
        await read(CAT + END, f"multipart/form-data; {parameters.replace('filename', 'boundary')}")
