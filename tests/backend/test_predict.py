"""Uploads: how they are stored, published and answered."""

import asyncio
import json
from typing import Any

import aio_pika
import asyncpg
import pytest

from backend import predictions
from backend.prediction_rows import NewPrediction
from backend.predictions import MAX_ROWS_PER_INSERT
from backend.settings import Settings
from scripts.local.config import Config
from tests.backend.conftest import Api, Serve, assert_problem, without
from tests.conftest import eventually


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
    ("queue_name", "files", "headers"),
    [
        ("inference", 1, {}),
        ("inference.bulk", 3, {}),
        ("inference", 1, {"Idempotency-Key": "one"}),
        ("inference.bulk", 3, {"Idempotency-Key": "three"}),
    ],
)
async def test_the_files_of_a_request_share_one_message_in_the_right_queue(
    queue_name: str,
    files: int,
    headers: dict[str, str],
    api: Api,
    cat: bytes,
    database: asyncpg.Connection,
    servers: Config,
) -> None:
    reader = await aio_pika.connect(servers.broker_url("worker"))
    async with reader:
        queue = await (await reader.channel()).declare_queue(queue_name, passive=True)
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
    services, queues = api.services, ("inference", "inference.bulk")
    depths = {queue: (await services.broker.inspect(queue)).depth for queue in queues}
    single = [[NewPrediction("x.png", bytes(3072), bulk=False)] for _ in range(64)]
    several = [[NewPrediction("x.png", bytes(3072), bulk=True) for _ in range(5)] for _ in range(13)]
    await asyncio.gather(*(services.submissions.insert(rows) for rows in (*single, *several)))
    await services.relay.stop()  # publishes what waits
    added = {queue: (await services.broker.inspect(queue)).depth - depth for queue, depth in depths.items()}
    assert added == {"inference": 1, "inference.bulk": 2}  # 64 and 65 rows; a message has at most 64


async def test_the_answer_to_an_upload_equals_the_stored_prediction(api: Api, cat: bytes) -> None:
    prediction = (await api.upload(cat)).json()
    assert (await api.client.get(prediction["urls"]["self"])).json() == prediction


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


async def test_a_wrong_method_and_an_unknown_address_are_problems(api: Api) -> None:
    assert_problem(await api.client.delete("/api/predict"), 405, "/docs")
    assert_problem(await api.client.get("/api/nothing"), 404, "/docs")


@pytest.mark.parametrize("name", ["\x00evil\n.png", "a" * 400 + ".png", "Кошка 🐈.png", " "])
async def test_any_file_name_can_be_stored(name: str, api: Api, cat: bytes) -> None:
    answer = await api.client.post("/api/predict", files={"file": (name, cat)})
    assert answer.status_code == 202
    assert 1 <= len(answer.json()["filename"]) <= 255


async def test_all_rows_are_stored_if_one_statement_cannot_take_them(
    api: Api, database: asyncpg.Connection
) -> None:
    rows = [NewPrediction("x.png", bytes(3072), bulk=True) for _ in range(2 * MAX_ROWS_PER_INSERT + 1)]
    await asyncio.gather(*(api.services.predictions.insert(rows[place::3]) for place in range(3)))
    stored = await database.fetch("SELECT id FROM predictions")
    assert {row["id"] for row in stored} == {row.id for row in rows}


async def test_an_insert_waits_for_files_that_are_being_decoded(
    api: Api, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "GATHER_SECONDS", 60)  # a busy machine may need more than 10 ms
    insert, idle = api.services.predictions.insert, api.services.decoders.idle
    idle.clear()
    first = asyncio.create_task(insert([NewPrediction("x.png", bytes(3072), bulk=False)]))
    for _ in range(10):
        await asyncio.sleep(0)
    second = asyncio.create_task(insert([NewPrediction("x.png", bytes(3072), bulk=False)]))
    await asyncio.sleep(0)
    idle.set()
    await asyncio.gather(first, second)
    # `xmin` is the transaction that inserted a row.
    assert await database.fetchval("SELECT count(DISTINCT xmin::text) FROM predictions") == 1


async def test_a_row_does_not_wait_for_the_end_of_a_slow_file(api: Api, database: asyncpg.Connection) -> None:
    api.services.decoders.idle.clear()
    await api.services.predictions.insert([NewPrediction("x.png", bytes(3072), bulk=False)])
    assert await database.fetchval("SELECT count(*) FROM predictions") == 1


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
    answer = await (await serve(without(settings, "broker_url"))).upload(cat)
    assert answer.status_code == 202
    assert await database.fetchval("SELECT count(*) FROM predictions") == 1


async def test_an_upload_without_a_database_gets_503(serve: Serve, settings: Settings, cat: bytes) -> None:
    api = await serve(without(settings, "database_url"))
    answer = await api.upload(cat)
    assert_problem(answer, 503, "database", "again")
    assert int(answer.headers["retry-after"]) >= 1
