"""Uploads that are refused: bad files, or too many files, bytes or unfinished predictions."""

import asyncio
import gc
from contextlib import closing
from itertools import chain, repeat

import asyncpg
import psutil
import pytest
from PIL import Image

from backend.settings import Settings
from tests.backend.conftest import Api, Serve, assert_problem
from tests.conftest import SAMPLES, eventually
from tests.images.files import encode


async def test_a_request_is_refused_if_every_file_is_refused(api: Api) -> None:
    answer = await api.upload(b"", b"not an image")
    body = assert_problem(answer, 422, "No file could be accepted")
    assert [entry["error"]["title"] for entry in body["predictions"]] == [
        "Empty file",
        "Not a supported image",
    ]


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 422, ("Empty file", "upload it again")),
        (b"no picture at all", 415, ("Not a supported image", "Convert")),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, ("Not a supported image", "Convert")),
        (encode(Image.new("L", (2000, 1000))), 413, ("too many pixels", "1,000,000", "scale")),
        (b"\x89PNG\r\n" + bytes(200_000), 413, ("File too large", "100,000", "smaller")),
        ((SAMPLES / "cat.jpg").read_bytes()[:500], 422, ("Damaged image", "again")),
    ],
    ids=["empty", "text", "svg", "too many pixels", "too large", "truncated"],
)
async def test_a_bad_file_gets_a_problem_that_says_what_to_do(
    content: bytes, status: int, words: tuple[str, ...], api: Api, database: asyncpg.Connection
) -> None:
    assert_problem(await api.upload(content), status, *words)
    assert await database.fetchval("SELECT count(*) FROM predictions") == 0


async def test_the_answer_to_a_request_without_a_file_says_how_to_send_one(api: Api, cat: bytes) -> None:
    post = api.client.post
    assert_problem(await post("/api/predict", files={"image": cat}), 422, "'file'", "'image' (file)")
    assert_problem(await post("/api/predict", data={"file": "cat"}), 422, "-F file=@")
    assert_problem(await post("/api/predict", json={}), 422, "multipart/form-data")
    headers = {"content-type": "multipart/form-data"}
    assert_problem(await post("/api/predict", content=b"x", headers=headers), 422, "boundary")


async def test_a_request_with_too_many_files_or_bytes_is_refused(api: Api, cat: bytes) -> None:
    assert_problem(await api.upload(*[cat] * 6), 413, "Too many files", "5")
    assert_problem(await api.upload(*[bytes(99_000)] * 5), 413, "Request too large", "400,000")


async def begin_upload(api: Api, size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head of an upload without its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.client.base_url.port)
    head = f"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
    writer.write(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
    return reader, writer


async def test_uploads_beyond_the_byte_budget_get_429_before_they_are_read(
    serve: Serve, settings: Settings, cat: bytes
) -> None:
    api = await serve(settings.model_copy(update={"max_pending_bytes": 150_000}))
    async with asyncio.timeout(10):
        _, first = await begin_upload(api, 300_000)  # counted as 100,000 bytes, the limit for one file
        await eventually(lambda: holds(api, 100_000))
        reader, second = await begin_upload(api, 60_000)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert " 429 " in head.splitlines()[0]
        assert "retry-after: " in head
        assert (await api.upload(cat)).status_code == 202  # a small upload still fits
        first.close()
        second.close()
        await eventually(lambda: holds(api, 0))
    assert (await api.upload(bytes(90_000))).status_code == 415


async def holds(api: Api, size: int) -> bool:
    return api.services.uploads.held_bytes == size


async def test_a_request_that_comes_alone_may_exceed_the_byte_budget(
    serve: Serve, settings: Settings, cat: bytes
) -> None:
    api = await serve(settings.model_copy(update={"max_pending_bytes": 1024}))
    assert (await api.upload(cat, bytes(90_000), cat)).status_code == 202


async def test_the_memory_of_refused_uploads_is_freed(serve: Serve, settings: Settings) -> None:
    api = await serve(
        settings.model_copy(update={"max_upload_bytes": 8_000_000, "max_request_bytes": 9_000_000})
    )
    process = psutil.Process()
    contents = [bytes(7_900_000), bytes(8_000_001), b"\x89PNG\r\n\x1a\n" + bytes(7_900_000)]
    gc.disable()  # so that memory in reference cycles counts
    try:
        for content in contents:
            await api.upload(content)
        before = process.memory_info().rss
        for _ in range(5):
            for content in contents:
                assert (await api.upload(content)).status_code in (413, 415, 422)
        assert process.memory_info().rss - before < 40e6  # the 15 uploads are 119 MB together
    finally:
        gc.enable()


async def test_too_many_unfinished_predictions_get_429_with_retry_after(
    serve: Serve, settings: Settings, cat: bytes
) -> None:
    api = await serve(settings.model_copy(update={"max_unfinished": 1}))
    await api.upload(cat)

    async def counted() -> bool:
        return api.services.relay.unfinished == 1

    await eventually(counted)
    answer = await api.upload(cat)
    assert_problem(answer, 429, "Try again")
    assert int(answer.headers["retry-after"]) >= 1


async def test_an_endless_body_is_refused_as_soon_as_it_is_too_large(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.client.base_url.port)
    with closing(writer):
        writer.write(
            b"POST /api/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        begin = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        answer = asyncio.create_task(reader.readuntil(b"\r\n"))
        sent = 0
        for chunk in chain([begin], repeat(bytes(10_000))):
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            sent += len(chunk)
            if answer.done():
                break
            assert sent < 20e6  # more than the buffers of the sockets hold
        assert (await answer).split()[1] == b"413"
