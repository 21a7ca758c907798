"""Searches of the history: their results, their time limit, and their own connections."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from backend import pools
from backend.database import Pool
from backend.history import HISTORY, complete
from backend.routes.predictions import HistoryQuery
from backend.settings import Settings
from scripts.local.config import Config
from tests.backend.conftest import Api, Serve, assert_problem, insert, list_minutes, without

NAMES = ["100%_cat.png", "100 cats.png", "a_b.png", "axb.png", "back\\slash.png", "🐈.png", "Ä.gif", "x.ab"]
TERMS = [
    "%",
    "_",
    "\\",
    "0%_",
    "a",
    "A_B",
    "cat",
    "CATS",
    ".png",
    "🐈",
    "ä",
    "ab",
    "x.",
    " ",
    "zebra",
    "%cat",
]
# Settings of the planner to switch off, so that a search uses the index of names, or walks through the rows.
PLANS = {"index of names": ("enable_seqscan", "enable_indexscan"), "walk": ("enable_bitmapscan",)}


async def insert_names(database: asyncpg.Connection) -> None:
    """Insert a prediction for each name. Half of them have ended."""
    for number, name in enumerate(NAMES):
        id = await insert(database, number, "cat" if number % 2 else None)
        await database.execute("UPDATE predictions SET filename = $2 WHERE id = $1", id, name)


@pytest.mark.parametrize("term", TERMS)
async def test_a_search_finds_its_text_anywhere_in_the_name_and_nothing_else(
    term: str, api: Api, database: asyncpg.Connection
) -> None:
    """A term may be short, or hold wildcards of LIKE. Each plan finds the same names."""
    await insert_names(database)
    expected = {name for name in NAMES if term.lower() in name.lower()}
    answer = await api.client.get("/api/predictions", params={"q": term})
    assert {row["filename"] for row in answer.json()["results"]} == expected
    statement = str(text(complete(HISTORY, ["q"])).compile(dialect=dialect()))
    pattern = HistoryQuery.model_validate({"q": term}).filters()["q"]
    for plan, disabled in PLANS.items():
        async with database.transaction():
            for setting in disabled:
                await database.execute(f"SET LOCAL {setting} = off")
            await database.execute("SET LOCAL plan_cache_mode = force_custom_plan")
            rows = await database.fetch(statement, pattern, 100)
            assert {row["filename"] for row in rows} == expected, plan
            explained = str(await database.fetch(f"EXPLAIN {statement}", pattern, 100))
            assert ("predictions_by_filename" in explained) == (plan == "index of names"), explained


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("ΣΚΥΛΟΣ.png", ["σκυλος", "Σκυλος", "ΣΚΥΛΟΣ.PNG"]),
        ("σκύλος.png", ["ΣΚΎΛΟΣ", "Σκύλος.PNG"]),
        ("ΌΣΟΣ-όσος.png", ["ΌΣΟΣ-όσος.png", "όσος.png"]),
        ("STRASSE.png", ["straße", "Straße.png", "strasse"]),
        ("straße.png", ["STRAẞE", "Straße"]),
        ("Ärger_100%.png", ["A\u0308RGER", "a\u0308rger_100%", "ÄRGER_100%"]),
        ("İzmir.png", ["izmir", "İZMİR"]),
        ("кошка.png", ["КОШКА"]),
    ],
)
async def test_a_search_finds_a_name_in_either_case(
    name: str, terms: list[str], api: Api, database: asyncpg.Connection
) -> None:
    await database.execute(
        "UPDATE predictions SET filename = $2 WHERE id = $1", await insert(database, 0, "cat"), name
    )
    await insert(database, 1, "cat")
    for term in terms:
        answer = await api.client.get("/api/predictions", params={"q": term})
        assert [row["filename"] for row in answer.json()["results"]] == [name], term


@pytest.mark.parametrize(
    "filters",
    [
        {"status": "failed", "label": "cat"},
        {"status": "queued", "min_confidence": 0},
        {"from": "2026-01-02", "to": "2026-01-01"},
        {"from": "2026-01-01", "to": "2026-01-01"},
    ],
    ids=str,
)
async def test_filters_that_exclude_each_other_are_answered_without_the_database(
    filters: dict[str, object], serve: Serve, settings: Settings
) -> None:
    api = await serve(without(settings, "database_url"))
    assert await list_minutes(api, **filters) == []
    query = {name: str(value) for name, value in filters.items()} | {"format": "csv"}
    answer = await api.client.get("/api/predictions", params=query)
    assert (answer.status_code, answer.text.count("\r\n")) == (200, 1)
    assert_problem(await api.client.get("/api/predictions"), 503, "Try again")


async def test_succeeded_predictions_can_be_searched_by_label(api: Api, database: asyncpg.Connection) -> None:
    await insert(database, 0, "cat")
    assert await list_minutes(api, status="succeeded", label="cat", min_confidence=0.5) == [0]


@asynccontextmanager
async def locked(servers: Config) -> AsyncGenerator[None]:
    """Lock the table of predictions, so that no other statement can read it."""
    connection = await asyncpg.connect(servers.database_url("cifar"))
    async with connection.transaction():
        await connection.execute("LOCK predictions")
        yield
    await connection.close()


@pytest.mark.parametrize("query", [{"q": "ab"}, {"format": "csv"}], ids=str)
async def test_a_search_or_an_export_that_times_out_is_answered_with_advice(
    query: dict[str, str], serve: Serve, settings: Settings, servers: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "SEARCH_SECONDS", 1)
    monkeypatch.setattr(pools, "EXPORT_SECONDS", 1)
    api = await serve(settings)
    async with locked(servers):
        answer = await api.client.get("/api/predictions", params=query)
    assert_problem(answer, 503, "takes too long", "three consecutive letters", "`from` and `to`")
    assert answer.headers["retry-after"] == "5"
    assert (await api.client.get("/api/predictions", params=query)).status_code == 200


@asynccontextmanager
async def taken(pool: Pool, connections: int) -> AsyncGenerator[None]:
    """Hold `connections` connections of a pool."""
    async with AsyncExitStack() as stack:
        for _ in range(connections):
            await stack.enter_async_context(pool._engine.connect())
        yield


async def test_predictions_and_health_do_not_wait_for_searches_and_exports(
    serve: Serve, settings: Settings, cat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "SEARCH_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(pools, "EXPORT_WAIT_SECONDS", 0.2)
    api = await serve(settings)
    history = api.services.history
    async with taken(history._searches, pools.SEARCH_CONNECTIONS), taken(history._exports, 1):
        for query in ({"q": "cat"}, {"label": "cat"}, {"format": "csv"}):
            refused = await api.client.get("/api/predictions", params=query)
            assert_problem(refused, 503, "Too many searches at once", "few seconds")
        prediction = (await api.upload(cat)).json()
        assert prediction["status"] == "queued"
        listed = (await api.client.get("/api/predictions")).json()["results"]
        assert [row["id"] for row in listed] == [prediction["id"]]
        health = (await api.client.get("/api/health")).json()
        assert health["components"]["database"]["status"] == "ok"
    assert (await api.client.get("/api/predictions", params={"q": "jpg"})).json()["results"]


async def test_health_does_not_wait_for_predictions(api: Api, settings: Settings) -> None:
    async with taken(api.services.history._pool, settings.database_connections):
        health = (await api.client.get("/api/health")).json()
    assert health["components"]["database"]["status"] == "ok"


async def test_many_searches_at_once_are_all_answered(api: Api, database: asyncpg.Connection) -> None:
    await insert_names(database)
    answers = await asyncio.gather(
        *(api.client.get("/api/predictions", params={"q": "cat"}) for _ in range(20))
    )
    assert {(answer.status_code, len(answer.json()["results"])) for answer in answers} == {(200, 2)}
