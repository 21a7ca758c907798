"""Claims and outcomes against the real table: at most three attempts, exactly one outcome."""

import asyncio
import json
import uuid
from collections.abc import Generator

import asyncpg
import numpy as np
import pytest

from inference.errors import Stopped
from inference.outcomes import MAX_ATTEMPTS, Claim, Database, Outcome, Run
from scripts.local.config import Config

RUN = Run("m1", batch_size=2, predict_ms=3.5)
CLASSES = ["cat", "dog"]


@pytest.fixture
def worker(servers: Config) -> Generator[Database]:
    worker = Database(servers.database_url("worker"))
    yield worker
    worker.close()


async def queue(database: asyncpg.Connection, count: int = 1) -> list[uuid.UUID]:
    rows = await database.fetch(
        """INSERT INTO predictions (id, filename, "timestamp", pixels)
           SELECT gen_random_uuid(), 'x.png', now(), decode(repeat('00', 3072), 'hex')
           FROM generate_series(1, $1) RETURNING id""",
        count,
    )
    return [row["id"] for row in rows]


def succeed(claim: Claim) -> Outcome:
    probabilities = np.array([0.25, 0.75], dtype=np.float32)
    return Outcome.succeeded(claim, CLASSES, probabilities, -3.5, unfamiliar=True)


async def test_a_claim_gives_the_pixels_and_marks_the_rows(
    worker: Database, database: asyncpg.Connection
) -> None:
    ids = await queue(database, 3)
    claims = worker.claim(ids)
    assert {claim.id for claim in claims} == set(ids)
    assert all((len(claim.pixels), claim.attempt, claim.given_up) == (3072, 1, False) for claim in claims)
    rows = await database.fetch("SELECT status, attempt, started_at FROM predictions")
    assert all((row["status"], row["attempt"]) == ("running", 1) and row["started_at"] for row in rows)


async def test_a_claim_says_how_long_its_row_has_waited(
    worker: Database, database: asyncpg.Connection
) -> None:
    (id,) = await queue(database)
    await database.execute("""UPDATE predictions SET "timestamp" = "timestamp" - interval '1 minute'""")
    (claim,) = worker.claim([id])
    row = await database.fetchrow('SELECT started_at - "timestamp" AS waited FROM predictions')
    assert row is not None
    assert claim.queue_ms == pytest.approx(row["waited"].total_seconds() * 1000, abs=0.001)


async def test_outcomes_are_written_together_each_its_own(
    worker: Database, database: asyncpg.Connection
) -> None:
    good, bad = worker.claim(await queue(database, 2))
    written = worker.write([succeed(good), Outcome.failed(bad, "Failed", "Try again.")], RUN)
    assert written == {good.id, bad.id}
    row = await database.fetchrow("SELECT * FROM predictions WHERE id = $1", good.id)
    assert row is not None
    assert (row["status"], row["prediction"], row["confidence"]) == ("succeeded", "dog", 0.75)
    assert json.loads(row["probabilities"])[1] == {"label": "cat", "probability": 0.25}
    assert (row["model"], row["batch_size"], row["predict_ms"]) == ("m1", 2, 3.5)
    assert (row["energy"], row["unfamiliar"]) == (-3.5, True)
    row = await database.fetchrow("SELECT * FROM predictions WHERE id = $1", bad.id)
    assert row is not None
    assert (row["status"], row["error_title"], row["prediction"]) == ("failed", "Failed", None)
    assert (row["energy"], row["unfamiliar"]) == (None, None)


async def test_a_terminal_or_deleted_row_cannot_be_claimed(
    worker: Database, database: asyncpg.Connection
) -> None:
    (claim,) = worker.claim(await queue(database))
    worker.write([succeed(claim)], RUN)
    assert worker.claim([claim.id, uuid.uuid4()]) == []


async def test_an_outcome_of_an_older_attempt_changes_nothing(
    worker: Database, database: asyncpg.Connection
) -> None:
    (stale,) = worker.claim(await queue(database))
    (latest,) = worker.claim([stale.id])
    assert latest.attempt == 2
    assert worker.write([Outcome.failed(stale, "Late", "")], RUN) == set()
    assert await database.fetchval("SELECT status FROM predictions") == "running"
    assert worker.write([succeed(latest)], RUN) == {latest.id}
    assert worker.write([Outcome.failed(latest, "Twice", "")], RUN) == set()
    assert await database.fetchval("SELECT status FROM predictions") == "succeeded"


async def test_a_batch_says_which_of_its_outcomes_were_written(
    worker: Database, database: asyncpg.Connection
) -> None:
    stale, good = worker.claim(await queue(database, 2))
    worker.claim([stale.id])
    assert worker.write([succeed(stale), succeed(good)], RUN) == {good.id}


async def test_after_three_attempts_a_row_is_given_up_with_its_reason(
    worker: Database, database: asyncpg.Connection
) -> None:
    (id,) = await queue(database)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert [claim.attempt for claim in worker.claim([id])] == [attempt]
    (claim,) = worker.claim([id])
    assert claim.given_up
    assert worker.claim([id]) == []
    row = await database.fetchrow("SELECT * FROM predictions")
    assert row is not None
    assert (row["status"], row["error_title"], row["attempt"]) == ("failed", "Given up", 3)
    assert "3 times" in row["error_detail"]
    outcome = Outcome.given_up(claim)
    assert (outcome.error_title, outcome.error_detail) == (row["error_title"], row["error_detail"])


async def test_a_lost_connection_comes_back_by_itself(worker: Database, database: asyncpg.Connection) -> None:
    ids = await queue(database)
    worker.claim([])
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'inference'"
    )
    claims = await asyncio.to_thread(worker.claim, ids)
    assert [claim.id for claim in claims] == ids


def test_a_worker_that_stops_does_not_wait_for_a_database_that_is_away() -> None:
    away = Database("postgresql://x:x@127.0.0.1:1/x")
    away.stop()
    with pytest.raises(Stopped):
        away.claim([uuid.uuid4()])
