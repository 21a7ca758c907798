"""Every SQL statement of every service is prepared against schema.sql."""

import itertools

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from backend import history, predictions
from inference import outcomes
from scripts.local.config import Config

FILTERS = [name for name in history.CONDITIONS if name not in ("older", "newer")]
HISTORY = {
    f"history by {' and '.join(names) or 'nothing'}, {direction}": history.history_statement(
        [*names, direction], direction
    )
    for names in [*itertools.combinations(FILTERS, 1), (), tuple(FILTERS)]
    for direction in ("older", "newer")
}
BACKEND = {
    name: str(text(statement).compile(dialect=dialect()))
    for name, statement in {**predictions.STATEMENTS, **HISTORY}.items()
}


@pytest.mark.parametrize("name", BACKEND)
async def test_the_backend_s_statement_fits_the_schema(name: str, database: asyncpg.Connection) -> None:
    assert await database.prepare(BACKEND[name])


@pytest.mark.parametrize("name", outcomes.STATEMENTS)
async def test_the_worker_s_statement_fits_the_schema(name: str, database: asyncpg.Connection) -> None:
    assert await database.prepare(outcomes.STATEMENTS[name])


@pytest.mark.parametrize("module", [predictions, outcomes])
def test_no_statement_is_left_out_of_the_list(module: object) -> None:
    words = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
    statements = {
        name
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and value.lstrip().startswith(words)
    }
    assert statements == set(module.STATEMENTS)  # pyright: ignore


async def test_one_notification_names_every_row_of_a_statement(database: asyncpg.Connection) -> None:
    payloads: list[str] = []
    await database.add_listener("progress", lambda *args: payloads.append(args[3]))
    await database.execute(
        """INSERT INTO predictions (id, filename, "timestamp", pixels)
           SELECT gen_random_uuid(), 'x.png', now(), decode(repeat('00', 3072), 'hex')
           FROM generate_series(1, 450)"""
    )
    await database.execute("SELECT 1")
    assert [len(payload.split(",")) for payload in sorted(payloads, key=len, reverse=True)] == [200, 200, 50]
    assert all(len(payload) < 8000 for payload in payloads)


async def test_outcomes_are_told_apart_from_progress(database: asyncpg.Connection) -> None:
    told: list[tuple[str, int]] = []
    for channel in ("progress", "outcomes"):
        await database.add_listener(channel, lambda *args: told.append((args[2], args[3].count(",") + 1)))
    await database.execute(
        """INSERT INTO predictions (id, filename, "timestamp", pixels)
           SELECT gen_random_uuid(), n || '.png', now(), decode(repeat('00', 3072), 'hex')
           FROM generate_series(1, 5) AS n"""
    )
    await database.execute(
        """UPDATE predictions SET
               status = CASE WHEN filename < '3' THEN 'canceled' ELSE 'running' END::prediction_status,
               completed_at = CASE WHEN filename < '3' THEN now() END"""
    )
    await database.execute("SELECT 1")
    assert sorted(told) == [("outcomes", 2), ("progress", 3), ("progress", 5)]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("status = 'succeeded'", "success_has_an_answer"),
        ("status = 'failed', completed_at = now()", "failure_has_a_reason"),
        ("completed_at = now()", "terminal_has_an_end"),
        ("pixels = 'x'", "pixels_are_one_image"),
        ("filename = ''", "filename_is_short"),
    ],
)
async def test_the_schema_refuses_a_row_that_contradicts_itself(
    change: str, broken: str, database: asyncpg.Connection
) -> None:
    await database.execute(
        """INSERT INTO predictions (id, filename, "timestamp", pixels)
           VALUES (gen_random_uuid(), 'x.png', now(), decode(repeat('00', 3072), 'hex'))"""
    )
    with pytest.raises(asyncpg.CheckViolationError, match=broken):
        await database.execute(f"UPDATE predictions SET {change}")


@pytest.mark.parametrize(
    ("user", "statement"),
    [
        ("backend", "UPDATE predictions SET prediction = 'cat'"),
        ("backend", "DELETE FROM predictions"),
        ("worker", "INSERT INTO predictions (id, filename, pixels) VALUES (gen_random_uuid(), 'x', 'x')"),
        ("worker", "UPDATE predictions SET filename = 'x'"),
        ("worker", "UPDATE predictions SET pixels = 'x'"),
        ("worker", "TRUNCATE predictions"),
        ("worker", "CREATE TABLE mine (id int)"),
        ("backend", "COPY predictions TO PROGRAM 'cat'"),
    ],
)
async def test_a_service_may_do_no_more_than_it_does(user: str, statement: str, servers: Config) -> None:
    connection = await asyncpg.connect(servers.database_url(user))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()
