"""Uploads: accepted and refused files, waiting, and idempotency keys."""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from contextlib import closing
from io import BytesIO
from itertools import chain, repeat
from typing import Any

import aio_pika
import asyncpg
import httpx
import psutil
import pytest
from PIL import Image

from backend.prediction_rows import NewPrediction
from backend.predictions import MAX_ROWS_PER_INSERT
from backend.routes.predict import parse_wait
from backend.settings import Settings
from scripts.local.config import Config
from tests.backend.conftest import Api, Serve
from tests.conftest import SAMPLES, eventually


def png(width: int, height: int) -> bytes:
    file = BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


def assert_problem(answer: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["type"]) == (status, "about:blank")
    assert body["request_id"] == answer.headers["x-request-id"]
    assert all(word in body["title"] + " " + body["detail"] for word in words), body
    return body


async def test_an_upload_is_stored_queued_and_published(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    before = (await api.services.broker.inspect("inference")).depth
    answer = await api.upload(cat)
    prediction = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == prediction["urls"]["self"]
    assert (prediction["status"], prediction["filename"]) == ("queued", "0.jpg")
    stored = await database.fetchrow("SELECT * FROM predictions WHERE id = $1", prediction["id"])
    assert stored is not None and stored["status"] == "queued"
    assert len(stored["pixels"]) == 32 * 32 * 3

    async def published() -> bool:
        return (await api.services.broker.inspect("inference")).depth == before + 1

    await eventually(published)


@pytest.mark.parametrize(
    ("name", "files", "headers"),
    [
        ("inference", 1, {}),
        ("inference.bulk", 3, {}),
        ("inference", 1, {"Idempotency-Key": "one"}),
        ("inference.bulk", 3, {"Idempotency-Key": "three"}),
    ],
)
async def test_several_files_share_one_message_in_the_bulk_queue(
    name: str,
    files: int,
    headers: dict[str, str],
    api: Api,
    cat: bytes,
    database: asyncpg.Connection,
    servers: Config,
) -> None:
    reader = await aio_pika.connect(servers.broker_url("backend"))
    async with reader:
        queue = await (await reader.channel()).declare_queue(name, passive=True)
        await queue.purge()
        await api.upload(*[cat] * files, **headers)

        async def received() -> Any:
            return await queue.get(fail=False, no_ack=True)

        message = await eventually(received)
        assert await received() is None
    rows = await database.fetch("SELECT id, bulk FROM predictions ORDER BY id")
    assert json.loads(message.body)[0] == [[str(row["id"]) for row in rows]]
    assert [row["bulk"] for row in rows] == [files > 1] * files


async def test_rows_of_one_insert_share_messages(api: Api) -> None:
    serve = api.services
    depths = {queue: (await serve.broker.inspect(queue)).depth for queue in ("inference", "inference.bulk")}
    single = [[NewPrediction("x.png", bytes(3072), bulk=False)] for _ in range(64)]
    several = [[NewPrediction("x.png", bytes(3072), bulk=True) for _ in range(5)] for _ in range(13)]
    await asyncio.gather(*(serve.submissions.insert(rows) for rows in (*single, *several)))
    await serve.relay.stop()  # publishes what waits
    added = {queue: (await serve.broker.inspect(queue)).depth - depth for queue, depth in depths.items()}
    assert added == {"inference": 1, "inference.bulk": 2}


async def test_the_answer_to_an_upload_equals_the_stored_prediction(api: Api, cat: bytes) -> None:
    prediction = (await api.upload(cat)).json()
    assert (await api.client.get(prediction["urls"]["self"])).json() == prediction


async def test_waiting_returns_the_finished_prediction(
    api: Api, cat: bytes, finish: Callable[[str], Awaitable[None]], database: asyncpg.Connection
) -> None:
    upload = asyncio.create_task(api.upload(cat, Prefer="wait=10"))

    async def stored() -> Any:
        return await database.fetchval("SELECT id FROM predictions")

    await finish(str(await eventually(stored)))
    answer = await upload
    assert answer.status_code == 200
    prediction = answer.json()
    assert (prediction["prediction"], prediction["confidence"]) == ("cat", 0.75)
    assert [row["label"] for row in prediction["probabilities"]] == ["cat", "dog"]
    assert prediction["metrics"]["batch_size"] == 1


async def test_a_wait_that_times_out_returns_the_queued_prediction(api: Api, cat: bytes) -> None:
    answer = await api.upload(cat, Prefer="wait=1")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


KEY = {"Idempotency-Key": "c0ffee-1"}


async def test_an_upload_that_is_repeated_with_its_key_stores_no_second_row(
    api: Api, cat: bytes, finish: Callable[[str], Awaitable[None]], database: asyncpg.Connection
) -> None:
    first, *again = await asyncio.gather(*(api.upload(cat, b"no image", cat, **KEY) for _ in range(6)))
    assert first.status_code == 202
    assert all(answer.json() == first.json() for answer in again)
    assert await database.fetchval("SELECT count(*) FROM predictions") == 2
    for prediction in first.json()["predictions"][::2]:
        await finish(prediction["id"])
    later = await api.upload(cat, b"no image", cat, **KEY, Prefer="wait=10")
    assert later.status_code == 200
    assert [entry.get("status") for entry in later.json()["predictions"]] == ["succeeded", None, "succeeded"]


async def test_waiting_with_a_key_returns_the_finished_prediction(
    api: Api, cat: bytes, finish: Callable[[str], Awaitable[None]], database: asyncpg.Connection
) -> None:
    upload = asyncio.create_task(api.upload(cat, **KEY, Prefer="wait=10"))

    async def stored() -> Any:
        return await database.fetchval("SELECT id FROM predictions")

    await finish(str(await eventually(stored)))
    answer = await upload
    assert (answer.status_code, answer.json()["prediction"]) == (200, "cat")


async def test_a_key_belongs_to_its_images_and_is_free_after_their_removal(api: Api, cat: bytes) -> None:
    dog = (SAMPLES / "dog.jpg").read_bytes()
    prediction = (await api.upload(cat, **KEY)).json()
    for others in ([dog], [dog, cat], [cat, dog], [cat, cat]):
        assert_problem(await api.upload(*others, **KEY), 422, "Idempotency key", "new one")
    assert [row["id"] for row in (await api.client.get("/api/predictions")).json()["results"]] == [
        prediction["id"]
    ]  # nothing is stored of refused uploads
    assert (await api.upload(dog, **{"Idempotency-Key": "another"})).json()["id"] != prediction["id"]
    assert (await api.client.delete(prediction["urls"]["self"])).status_code == 204
    assert (await api.upload(dog, **KEY)).status_code == 202
    assert_problem(await api.upload(dog, **{"Idempotency-Key": "x" * 256}), 422, "idempotency-key")


async def test_several_files_are_answered_in_order_and_a_bad_one_is_refused_alone(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    answer = await api.upload(cat, b"not an image", cat)
    assert answer.status_code == 202
    first, second, third = answer.json()["predictions"]
    assert (first["filename"], third["filename"]) == ("0.jpg", "2.jpg")
    assert second["filename"] == "1.jpg"
    assert second["error"]["title"] == "Not a supported image"
    assert await database.fetchval("SELECT count(*) FROM predictions") == 2


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
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, ("Not a supported image",)),
        (png(2000, 1000), 413, ("too many pixels", "1,000,000", "scale")),
        (b"\x89PNG\r\n" + bytes(200_000), 413, ("File too large", "100,000")),
        ((SAMPLES / "cat.jpg").read_bytes()[:500], 422, ("Damaged image", "again")),
    ],
    ids=["empty", "text", "svg", "bomb", "too large", "truncated"],
)
async def test_a_bad_file_gets_a_problem_that_says_what_to_do(
    content: bytes, status: int, words: tuple[str, ...], api: Api, database: asyncpg.Connection
) -> None:
    assert_problem(await api.upload(content), status, *words)
    assert await database.fetchval("SELECT count(*) FROM predictions") == 0


async def test_the_answer_to_a_request_without_a_file_names_the_field(api: Api, cat: bytes) -> None:
    post = api.client.post
    assert_problem(await post("/api/predict", files={"image": cat}), 422, "'file'", "'image' (file)")
    assert_problem(await post("/api/predict", data={"file": "cat"}), 422, "-F file=@")
    assert_problem(await post("/api/predict", json={}), 422, "multipart/form-data")
    headers = {"content-type": "multipart/form-data"}
    assert_problem(await post("/api/predict", content=b"x", headers=headers), 422, "boundary")


async def test_too_many_files_and_too_large_a_request_are_refused(api: Api, cat: bytes) -> None:
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
        _, first = await begin_upload(api, 300_000)  # counts as one file: 100,000 bytes
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


async def holds(api: Api, count: int) -> bool:
    return api.services.uploads.held_bytes == count


async def test_a_request_that_comes_alone_is_accepted_at_any_size(
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
    gc.disable()
    try:
        for content in contents:
            await api.upload(content)
        before = process.memory_info().rss
        for _ in range(5):
            for content in contents:
                assert (await api.upload(content)).status_code in (413, 415, 422)
        assert process.memory_info().rss - before < 40e6  # all of them would be 120 MB
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


async def test_a_wrong_method_and_an_unknown_address_are_problems(api: Api) -> None:
    assert_problem(await api.client.delete("/api/predict"), 405, "/docs")
    assert_problem(await api.client.get("/api/nothing"), 404, "/docs")


@pytest.mark.parametrize("name", ["\x00evil\n.png", "a" * 400 + ".png", "Кошка 🐈.png", " "])
async def test_any_file_name_can_be_stored(name: str, api: Api, cat: bytes) -> None:
    answer = await api.client.post("/api/predict", files={"file": (name, cat)})
    assert answer.status_code == 202
    assert 1 <= len(answer.json()["filename"]) <= 255


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ([], 0),
        (["wait=1"], 1),
        (["respond-async, wait = 10"], 10),
        (['wait="7"'], 7),
        (["wait=61"], 60),
        (["wait=999999"], 60),
        (["wait=0"], 0),
        (["wait=-1"], 0),
        (["wait=soon"], 0),
        (["await=5"], 0),
        (["wait=12345678"], 60),
        (["WAIT=20"], 20),
        (["respond-async", "Wait=20"], 20),
        (["wait=20; strict=yes; more"], 20),
        (["wait=20, wait=30", "wait=40"], 20),
        (["wait=soon, wait=30"], 0),  # only the first counts, and it is invalid
        (['note="a, wait=5", wait=20'], 20),
        ([r'note="a \", wait=5", wait=20'], 20),
        (["handling=strict; wait=5"], 0),  # a parameter of another preference
        (["wait"], 0),
        (["wait=1.5"], 0),
        (["wait=²"], 0),
        (['wait="20'], 0),
        ([",, ;=, wait=20"], 20),
        (["wait=" + "9" * 8000], 0),
    ],
)
def test_the_wait_is_at_most_a_minute_and_an_invalid_one_is_ignored(
    prefer: list[str], seconds: float
) -> None:
    assert parse_wait(*prefer) == seconds


async def test_several_prefer_lines_are_joined_and_the_answer_names_the_applied_wait(
    api: Api, cat: bytes
) -> None:
    headers = [("Prefer", "respond-async"), ("prefer", 'Wait="1"')]
    answer = await api.client.post("/api/predict", files={"file": cat}, headers=headers)
    assert answer.headers["preference-applied"] == "wait=1"
    ignored = await api.client.post("/api/predict", files={"file": cat}, headers={"Prefer": "wait=soon"})
    assert "preference-applied" not in ignored.headers


async def test_more_rows_than_one_statement_takes_are_all_stored(
    api: Api, database: asyncpg.Connection
) -> None:
    rows = [NewPrediction("x.png", bytes(3072), bulk=True) for _ in range(2 * MAX_ROWS_PER_INSERT + 1)]
    await asyncio.gather(*(api.services.predictions.insert(rows[place::3]) for place in range(3)))
    stored = await database.fetch("SELECT id FROM predictions")
    assert {row["id"] for row in stored} == {row.id for row in rows}


async def test_rows_share_an_insert_with_files_that_are_being_decoded(
    api: Api, database: asyncpg.Connection
) -> None:
    predictions, idle = api.services.predictions, api.services.decoders.idle
    idle.clear()
    first = asyncio.create_task(predictions.insert([NewPrediction("x.png", bytes(3072), bulk=False)]))
    for _ in range(10):
        await asyncio.sleep(0)
    second = asyncio.create_task(predictions.insert([NewPrediction("x.png", bytes(3072), bulk=False)]))
    await asyncio.sleep(0)
    idle.set()
    await asyncio.gather(first, second)
    assert await database.fetchval("SELECT count(DISTINCT xmin::text) FROM predictions") == 1


async def test_a_row_does_not_wait_for_a_file_that_takes_long_to_decode(
    api: Api, database: asyncpg.Connection
) -> None:
    api.services.decoders.idle.clear()
    await api.services.predictions.insert([NewPrediction("x.png", bytes(3072), bulk=False)])
    assert await database.fetchval("SELECT count(*) FROM predictions") == 1


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
            assert sent < 20e6  # more than the sockets hold
        assert (await answer).split()[1] == b"413"


async def test_a_harmless_request_id_is_kept_and_a_harmful_one_replaced(api: Api) -> None:
    kept = await api.client.get("/api/health/live", headers={"X-Request-ID": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    replaced = await api.client.get("/api/health/live", headers={"X-Request-ID": "a b<script>"})
    assert len(replaced.headers["x-request-id"]) == 32


async def test_many_uploads_at_once_are_all_stored(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    answers = await asyncio.gather(*(api.upload(cat) for _ in range(60)))
    assert {answer.status_code for answer in answers} == {202}
    ids = {answer.json()["id"] for answer in answers}
    assert await database.fetchval("SELECT count(*) FROM predictions WHERE id = ANY($1)", ids) == 60


async def test_an_upload_is_accepted_without_a_broker(
    serve: Serve, settings: Settings, cat: bytes, database: asyncpg.Connection
) -> None:
    away = settings.model_copy(update={"broker_url": type(settings.broker_url)("amqp://x:x@127.0.0.1:1/x")})
    answer = await (await serve(away)).upload(cat)
    assert answer.status_code == 202
    assert await database.fetchval("SELECT count(*) FROM predictions") == 1


async def test_an_upload_without_a_database_gets_503(serve: Serve, settings: Settings, cat: bytes) -> None:
    gone = type(settings.database_url)("postgresql://x:x@127.0.0.1:1/x")
    api = await serve(settings.model_copy(update={"database_url": gone}))
    answer = await api.upload(cat)
    assert_problem(answer, 503, "database", "again")
    assert int(answer.headers["retry-after"]) >= 1
