"""Every SQL statement of every service fits schema.sql. Its events, constraints and permissions work."""

import asyncio
import itertools
from types import ModuleType

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from backend import database as database_module
from backend import event_log, history, idempotency, models, predictions, retention, trainings
from inference import predictions as worker_predictions
from inference import registry
from scripts.local.config import Config
from training.worker import runs

FILTERS = [name for name in history.CONDITIONS if name not in ("older", "newer")]
HISTORY = {
    f"history by {' and '.join(names) or 'nothing'}, {direction}": history.complete(
        history.HISTORY, [*names, direction], direction
    )
    for names in [*itertools.combinations(FILTERS, 1), (), tuple(FILTERS)]
    for direction in ("older", "newer")
}
EXPORTS = {
    f"export by {' and '.join(names) or 'nothing'}": history.complete(history.EXPORT, [*names, "older"])
    for names in [*itertools.combinations(FILTERS, 1), (), tuple(FILTERS)]
}


def statements(*modules: ModuleType) -> dict[str, str]:
    """Every SQL statement of the modules, by its name.

    A statement is a constant that begins with a word of SQL. Two constants of `history` are templates,
    which are filled in above.
    """
    words = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and value.lstrip().startswith(words)
    }


MODULES = (database_module, predictions, event_log, idempotency, trainings, models)
BACKEND = {
    name: str(text(statement).compile(dialect=dialect()))
    for name, statement in {**statements(*MODULES), **HISTORY, **EXPORTS}.items()
} | statements(retention)
WORKERS = statements(worker_predictions, registry, runs)


@pytest.mark.parametrize("name", BACKEND)
async def test_the_backend_s_statement_fits_the_schema(name: str, database: asyncpg.Connection) -> None:
    assert await database.prepare(BACKEND[name])


@pytest.mark.parametrize("name", WORKERS)
async def test_a_worker_s_statement_fits_the_schema(name: str, database: asyncpg.Connection) -> None:
    assert await database.prepare(WORKERS[name])


INSERT = """INSERT INTO predictions (id, filename, "timestamp", pixels)
    SELECT gen_random_uuid(), n || '.png', now(), decode(repeat('00', 3072), 'hex')
    FROM generate_series(1, $1) AS n"""


async def test_a_statement_creates_one_event_per_row_and_one_notification(
    database: asyncpg.Connection,
) -> None:
    notified: list[tuple[str, str]] = []
    for channel in ("progress", "outcomes"):
        await database.add_listener(channel, lambda *args: notified.append((args[2], args[3])))
    (latest,) = await database.fetchrow("SELECT max(number) FROM events") or [0]
    statements = {
        "progress": ["UPDATE predictions SET status = 'running'"],
        "outcomes": [
            "UPDATE predictions SET status = 'canceled', completed_at = now() WHERE filename < '3'",
            "DELETE FROM predictions",
        ],
    }
    await database.execute(INSERT, 450)
    expected = [("progress", "")]
    for channel, group in statements.items():
        for statement in group:
            await database.execute(statement)
            expected.append((channel, ""))
    await database.execute("SELECT 1")
    assert notified == expected
    counts = await database.fetch(
        """SELECT count(*) FROM events WHERE number > $1 GROUP BY prediction_id ORDER BY 1""", latest
    )
    canceled = 2 * (1 + 10 + 100)  # file names that begin with 1 or 2
    assert [row["count"] for row in counts] == [3] * (450 - canceled) + [4] * canceled


async def test_a_statement_that_changes_no_row_creates_no_event(database: asyncpg.Connection) -> None:
    count = "SELECT count(*) FROM events"
    before = await database.fetchval(count)
    await database.execute("UPDATE predictions SET status = 'running'")
    await database.execute("DELETE FROM predictions")
    assert await database.fetchval(count) == before


async def test_a_statement_that_changes_over_1000_rows_creates_an_event_without_a_prediction(
    database: asyncpg.Connection,
) -> None:
    await database.execute(INSERT, 1001)
    last = await database.fetchrow("SELECT * FROM events ORDER BY number DESC LIMIT 1")
    assert last is not None
    assert last["prediction_id"] is None


async def test_events_are_numbered_in_the_order_of_the_commits(
    database: asyncpg.Connection, servers: Config
) -> None:
    """Four connections write at the same time. After a reader has seen a number, no lower number appears."""
    writers = [await asyncpg.connect(servers.database_url("cifar")) for _ in range(4)]
    newest = await database.fetchval("SELECT max(number) FROM events") or 0
    seen = {newest}

    async def write(writer: asyncpg.Connection) -> None:
        for _ in range(50):
            async with writer.transaction():
                await writer.execute(INSERT, 3)
                await writer.execute("SELECT pg_sleep(random() / 1000)")

    writing = asyncio.gather(*map(write, writers))
    while not writing.done():
        rows = await database.fetch("SELECT number FROM events WHERE number > $1", newest)
        numbers = {row["number"] for row in rows}
        assert min(numbers - seen, default=max(seen) + 1) > max(seen)
        seen |= numbers
    await writing
    for writer in writers:
        await writer.close()


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
async def test_the_schema_refuses_an_invalid_prediction(
    change: str, broken: str, database: asyncpg.Connection
) -> None:
    await database.execute(
        """INSERT INTO predictions (id, filename, "timestamp", pixels)
           VALUES (gen_random_uuid(), 'x.png', now(), decode(repeat('00', 3072), 'hex'))"""
    )
    with pytest.raises(asyncpg.CheckViolationError, match=broken):
        await database.execute(f"UPDATE predictions SET {change}")


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("status = 'succeeded', completed_at = now()", "training_success_has_a_model"),
        ("status = 'failed', completed_at = now()", "training_failure_has_a_reason"),
        ("completed_at = now()", "training_has_an_end"),
        ("status = 'canceled'", "training_has_an_end"),
        ("epochs = 0", "epochs_are_countable"),
        ("activation = 'maybe'", "activation_is_known"),
    ],
)
async def test_the_schema_refuses_an_invalid_training(
    change: str, broken: str, database: asyncpg.Connection
) -> None:
    await database.execute(
        """INSERT INTO trainings (id, recipe, seed, activation, "timestamp")
           VALUES (gen_random_uuid(), 'fast', 0, 'better', now())"""
    )
    with pytest.raises(asyncpg.CheckViolationError, match=broken):
        await database.execute(f"UPDATE trainings SET {change}")


@pytest.mark.parametrize(
    ("user", "statement"),
    [
        ("backend", "UPDATE predictions SET prediction = 'cat'"),
        ("backend", "UPDATE predictions SET attempt = 0"),
        ("worker", "INSERT INTO predictions (id, filename, pixels) VALUES (gen_random_uuid(), 'x', 'x')"),
        ("worker", "UPDATE predictions SET filename = 'x'"),
        ("worker", "UPDATE predictions SET pixels = 'x'"),
        ("worker", "TRUNCATE predictions"),
        ("worker", "CREATE TABLE mine (id int)"),
        ("backend", "INSERT INTO events VALUES (1, NULL)"),
        ("backend", "UPDATE events SET number = 1"),
        ("worker", "SELECT FROM events"),
        ("backend", "COPY predictions TO PROGRAM 'cat'"),
        ("backend", "UPDATE trainings SET model = 'x'"),
        ("backend", "UPDATE trainings SET seen_at = now()"),
        ("backend", "DELETE FROM trainings"),
        ("backend", "DELETE FROM epochs"),
        ("backend", "UPDATE epochs SET accuracy = 1"),
        ("backend", "INSERT INTO models (version, card) VALUES ('x', '{}')"),
        ("backend", "UPDATE models SET card = '{}'"),
        ("backend", "UPDATE models SET error = NULL"),
        ("backend", "UPDATE models SET served_at = now()"),
        ("worker", "SELECT FROM trainings"),
        ("worker", "UPDATE models SET card = '{}'"),
        ("worker", "DELETE FROM models"),
        ("training", "SELECT FROM predictions"),
        ("training", "INSERT INTO trainings (id, recipe) VALUES (gen_random_uuid(), 'fast')"),
        ("training", "UPDATE trainings SET recipe = 'x'"),
        ("training", "DELETE FROM trainings"),
        ("training", "UPDATE epochs SET accuracy = 1"),
        ("training", "UPDATE models SET activated_at = now()"),
    ],
)
async def test_a_statement_that_a_service_does_not_need_is_refused(
    user: str, statement: str, database: asyncpg.Connection
) -> None:
    await database.execute(f"SET ROLE {user}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute(statement)
