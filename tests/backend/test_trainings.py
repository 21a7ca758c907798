"""Trainings over HTTP: start, list, read, cancel, and refusals."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from backend.settings import Settings
from backend.trainings import MAX_UNFINISHED, Progress, Trainings
from tests.backend.conftest import Api, Serve, assert_problem, without
from tests.conftest import eventually

CLAIM = """UPDATE trainings SET status = 'running', phase = 'training', device = 'CPU', epochs = 8,
    started_at = now(), seen_at = now(), attempt = attempt + 1 WHERE id = $1"""
SUCCEED = "UPDATE trainings SET status = 'succeeded', model = 'm-1', completed_at = now() WHERE id = $1"
FAIL = """UPDATE trainings SET status = 'failed', error_title = 'Training crashed',
    error_detail = 'Out of memory.', completed_at = now() WHERE id = $1"""
EPOCH = """INSERT INTO epochs (training, number, loss, accuracy, validation_accuracy, learning_rate,
    images_per_second, seconds_left) VALUES ($1, $2, 1.5, 0.4, 0.5, 0.01, 4000, 60)"""


async def start(api: Api, **asked: object) -> dict[str, Any]:
    answer = await api.client.post("/api/trainings", json=asked)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def depth(api: Api) -> int:
    return (await api.services.broker.inspect("training")).depth


async def test_a_training_is_stored_and_published_and_the_answer_has_its_address(
    api: Api, database: asyncpg.Connection
) -> None:
    before = await depth(api)
    asked = {"recipe": "accurate", "seed": 2**31 - 1, "epochs": 30, "data": "my-birds.zip"}
    answer = await api.client.post("/api/trainings", json=asked | {"activation": "never"})
    training = answer.json()
    assert answer.status_code == 202
    place = f"/api/trainings/{training['id']}"
    assert answer.headers["location"] == place
    assert {name: training[name] for name in asked} == asked
    urls = {"self": place, "events": f"{place}/events", "cancel": f"{place}/cancel", "model": None}
    assert training["urls"] == urls
    row = await database.fetchrow("SELECT * FROM trainings WHERE id = $1", training["id"])
    assert row is not None
    assert (row["status"], row["recipe"], row["seed"]) == ("queued", "accurate", 2**31 - 1)
    assert (row["epochs"], row["data"], row["activation"]) == (30, "my-birds.zip", "never")

    async def published() -> bool:
        return await depth(api) == before + 1

    await eventually(published)


@pytest.mark.parametrize("body", [b"", b" \n", b"{}"])
async def test_an_empty_request_trains_with_the_defaults(body: bytes, api: Api) -> None:
    answer = await api.client.post("/api/trainings", content=body)
    assert answer.status_code == 202
    training = answer.json()
    names = ("recipe", "seed", "epochs", "data", "activation", "status", "phase", "model", "error")
    found = [training[name] for name in names]
    assert found == ["fast", 0, None, None, "better", "queued", None, None, None]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ('{"seed": -1}', "seed"),
        ('{"seed": 2147483648}', "seed"),
        ('{"seed": 1.5}', "seed"),
        ('{"seed": "1"}', "seed"),
        ('{"seed": true}', "seed"),
        ('{"seed": 1e999}', "seed"),
        ('{"epochs": 0}', "epochs"),
        ('{"epochs": 1001}', "epochs"),
        ('{"recipe": "slow"}', "recipe"),
        ('{"recipe": null}', "recipe"),
        ('{"activation": "perhaps"}', "activation"),
        ('{"data": "../secrets"}', "data"),
        ('{"data": "/etc/passwd"}', "data"),
        ('{"data": ".hidden"}', "data"),
        ('{"data": "a\\u0000b"}', "data"),
        ('{"data": "birds\\n"}', "data"),
        ('{"data": ""}', "data"),
        (json.dumps({"data": "a" * 101}), "data"),
        ('{"sed": 1}', "sed"),
        ('{"id": "x"}', "id"),
        ("[]", "body"),
        ("null", "body"),
        ("{", "body"),
        ("\x00", "body"),
        ("[" * 2000, "body"),
        ('{"recipe": "\\ud800"}', "body"),
    ],
)
async def test_an_invalid_request_is_refused(
    body: str, word: str, api: Api, database: asyncpg.Connection
) -> None:
    answer = await api.client.post("/api/trainings", content=body)
    assert_problem(answer, 422, "Bad parameter", word, "/docs")
    assert await database.fetchval("SELECT count(*) FROM trainings") == 0


@pytest.mark.parametrize("size", [5_000, 5_000_000])
async def test_a_body_over_the_limit_is_refused(size: int, api: Api) -> None:
    answer = await api.client.post("/api/trainings", content=b" " * size)
    assert_problem(answer, 413, "4,096", "/docs")


async def test_at_most_twenty_trainings_are_unfinished_also_with_concurrent_requests(api: Api) -> None:
    answers = await asyncio.gather(*(api.client.post("/api/trainings") for _ in range(MAX_UNFINISHED + 5)))
    refused = [answer for answer in answers if answer.status_code != 202]
    assert len(refused) == 5
    for answer in refused:
        assert_problem(answer, 429, "Too many trainings", "Cancel one")
        assert int(answer.headers["retry-after"]) > 0
    accepted = next(answer.json() for answer in answers if answer.status_code == 202)
    assert (await api.client.post(accepted["urls"]["cancel"])).status_code == 200
    assert (await api.client.post("/api/trainings")).status_code == 202


async def test_the_list_is_newest_first_in_pages(api: Api) -> None:
    ids = [(await start(api, seed=seed))["id"] for seed in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    sizes: list[int] = []
    while True:
        page = (await api.client.get("/api/trainings", params=query)).json()
        seen += [training["id"] for training in page["results"]]
        sizes.append(len(page["results"]))
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert (seen, sizes) == (ids[::-1], [2, 2, 1])
    assert "curve" not in page["results"][0]


async def test_an_empty_list_is_a_page(api: Api) -> None:
    assert (await api.client.get("/api/trainings")).json() == {"results": [], "next": None}


BAD_QUERIES = [{"limit": 0}, {"limit": 201}, {"cursor": "x"}, {"cursor": "\x00"}]


@pytest.mark.parametrize("query", BAD_QUERIES, ids=str)
async def test_a_list_with_an_invalid_limit_or_cursor_is_refused(query: dict[str, Any], api: Api) -> None:
    assert_problem(await api.client.get("/api/trainings", params=query), 422, "Bad parameter")


async def test_one_training_has_its_curve_in_order(api: Api, database: asyncpg.Connection) -> None:
    training = await start(api)
    await database.execute(CLAIM, training["id"])
    for number in (2, 1):
        await database.execute(EPOCH, training["id"], number)
    found = (await api.client.get(training["urls"]["self"])).json()
    seen = [found[name] for name in ("status", "phase", "device", "epochs")]
    assert seen == ["running", "training", "CPU", 8]
    assert [epoch["number"] for epoch in found["curve"]] == [1, 2]
    first = found["curve"][0]
    assert (first["loss"], first["accuracy"], first["validation_accuracy"]) == (1.5, 0.4, 0.5)
    assert (first["learning_rate"], first["images_per_second"], first["seconds_left"]) == (0.01, 4000, 60)
    assert first["timestamp"]


async def test_a_figure_that_is_not_finite_is_null(api: Api, database: asyncpg.Connection) -> None:
    training = await start(api)
    await database.execute(EPOCH.replace("1.5", "'NaN'").replace("60)", "'Infinity')"), training["id"], 1)
    answer = await api.client.get(training["urls"]["self"])
    assert answer.status_code == 200
    (epoch,) = answer.json()["curve"]
    assert (epoch["loss"], epoch["seconds_left"]) == (None, None)


async def test_an_outcome_has_the_model_or_the_reason(api: Api, database: asyncpg.Connection) -> None:
    good, bad = await start(api), await start(api)
    await database.execute(SUCCEED, good["id"])
    await database.execute(FAIL, bad["id"])
    good, bad = [(await api.client.get(training["urls"]["self"])).json() for training in (good, bad)]
    assert (good["status"], good["model"]) == ("succeeded", "m-1")
    assert good["urls"]["model"] == "/api/models/m-1"
    assert bad["error"] == {"title": "Training crashed", "detail": "Out of memory."}


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_an_unfinished_training_can_be_canceled_repeatedly(
    status: str, api: Api, database: asyncpg.Connection
) -> None:
    training = await start(api)
    if status == "running":
        await database.execute(CLAIM, training["id"])
    answer = await api.client.post(training["urls"]["cancel"])
    assert answer.status_code == 200
    assert answer.json()["status"] == "canceled"
    assert answer.json()["completed_at"] is not None
    again = await api.client.post(training["urls"]["cancel"])
    assert (again.status_code, again.json()) == (200, answer.json())


@pytest.mark.parametrize(("end", "word"), [(SUCCEED, "succeeded"), (FAIL, "failed")])
async def test_an_ended_training_cannot_be_canceled(
    end: str, word: str, api: Api, database: asyncpg.Connection
) -> None:
    training = await start(api)
    await database.execute(end, training["id"])
    answer = await api.client.post(training["urls"]["cancel"])
    assert_problem(answer, 409, word, "POST /api/trainings")


async def test_a_training_that_publishes_cannot_be_canceled_unless_its_worker_is_silent(
    api: Api, database: asyncpg.Connection
) -> None:
    training = await start(api)
    await database.execute(CLAIM, training["id"])
    await database.execute("UPDATE trainings SET phase = 'publishing'")
    answer = await api.client.post(training["urls"]["cancel"])
    assert_problem(answer, 409, "is publishing its model", "/activate to serve another")
    await database.execute("UPDATE trainings SET seen_at = now() - interval '21 s'")
    answer = await api.client.post(training["urls"]["cancel"])
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")


async def test_a_cancel_succeeds_if_a_publishing_training_is_queued_again_meanwhile(
    api: Api, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = await start(api)
    await database.execute(CLAIM, training["id"])
    await database.execute("UPDATE trainings SET phase = 'publishing'")
    read = Trainings.read

    async def queue_and_read(trainings: Trainings, id: UUID) -> Progress:
        await database.execute("UPDATE trainings SET status = 'queued', phase = NULL")  # its worker stopped
        return await read(trainings, id)

    monkeypatch.setattr(Trainings, "read", queue_and_read)
    answer = await api.client.post(training["urls"]["cancel"])
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")


async def test_a_training_whose_seen_at_is_old_is_silent(api: Api, database: asyncpg.Connection) -> None:
    training = await start(api)
    assert not training["silent"]
    await database.execute(CLAIM, training["id"])
    assert not (await api.client.get(training["urls"]["self"])).json()["silent"]
    await database.execute("UPDATE trainings SET seen_at = now() - interval '21 s'")
    assert (await api.client.get(training["urls"]["self"])).json()["silent"]


@pytest.mark.parametrize(
    ("method", "part"),
    [("GET", ""), ("GET", "/events"), ("POST", "/cancel")],
    ids=["read", "follow", "cancel"],
)
async def test_an_unknown_or_invalid_id_is_refused(method: str, part: str, api: Api) -> None:
    answer = await api.client.request(method, f"/api/trainings/{uuid4()}{part}")
    assert_problem(answer, 404, "Unknown training", "GET /api/trainings")
    assert_problem(await api.client.request(method, f"/api/trainings/no-id{part}"), 422, "id")


async def test_a_training_is_accepted_without_a_broker(
    serve: Serve, settings: Settings, database: asyncpg.Connection
) -> None:
    await start(await serve(without(settings, "broker_url")))
    assert await database.fetchval("SELECT count(*) FROM trainings") == 1


async def test_trainings_and_models_get_503_without_a_database(serve: Serve, settings: Settings) -> None:
    api = await serve(without(settings, "database_url"))
    for answer in (await api.client.post("/api/trainings"), await api.client.get("/api/models")):
        assert isinstance(answer, httpx.Response)
        assert_problem(answer, 503, "database", "again")
