"""Reads, claims and outcomes in the real table: at most three attempts, and one outcome."""

import asyncio
import json
import threading
import uuid
from collections.abc import Generator
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import asyncpg
import numpy as np
import pytest

from celery_worker.errors import Stopped
from inference.outcomes import Failed, ForwardPass, Outcome, Row
from inference.predictions import MAX_ATTEMPTS, Predictions
from inference.runner import conclude
from scripts.local.config import Config

FORWARD_PASS = ForwardPass("m1", batch_size=2, predict_ms=3.5)


@pytest.fixture
def worker(servers: Config) -> Generator[Predictions]:
    worker = Predictions(servers.database_url("worker"), threading.Event())
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


def take(worker: Predictions, ids: list[uuid.UUID], **how: bool) -> list[Row]:
    rows: list[Row] = []
    for row in worker.take(ids, **how):
        assert isinstance(row, Row)
        rows.append(row)
    return sorted(rows, key=lambda row: ids.index(row.id))


def succeed(row: Row) -> Outcome:
    classifier: Any = SimpleNamespace(classes=["cat", "dog"], is_unfamiliar=lambda _energy: True)
    return conclude(row, classifier, (np.array([0.25, 0.75], dtype=np.float32), np.float32(-3.5)))


async def test_a_first_delivery_is_read_and_changes_nothing(
    worker: Predictions, database: asyncpg.Connection
) -> None:
    ids = await queue(database, 3)
    rows = take(worker, ids)
    assert [row.id for row in rows] == ids
    assert {(len(row.pixels), row.attempt) for row in rows} == {(3072, 0)}
    stored = await database.fetch("SELECT status, attempt, started_at FROM predictions")
    assert {tuple(row) for row in stored} == {("queued", 0, None)}


async def test_an_outcome_of_a_first_delivery_counts_as_the_first_attempt(
    worker: Predictions, database: asyncpg.Connection
) -> None:
    (row,) = take(worker, await queue(database))
    assert worker.write([succeed(row)], FORWARD_PASS) == {row.id}
    stored = await database.fetchrow("SELECT status, attempt, started_at FROM predictions")
    assert stored is not None
    assert tuple(stored) == ("succeeded", 1, row.started_at)


async def test_a_slow_batch_is_claimed(worker: Predictions, database: asyncpg.Connection) -> None:
    ids = await queue(database, 3)
    rows = take(worker, ids, is_slow=True)
    assert {(len(row.pixels), row.attempt) for row in rows} == {(3072, 1)}
    stored = await database.fetch("SELECT id, status, attempt, started_at FROM predictions")
    assert {(row["status"], row["attempt"]) for row in stored} == {("running", 1)}
    assert {row["id"]: row["started_at"] for row in stored} == {row.id: row.started_at for row in rows}


async def test_a_redelivered_row_is_claimed_and_its_first_delivery_counts_as_an_attempt(
    worker: Predictions, database: asyncpg.Connection
) -> None:
    (id,) = await queue(database)
    assert [row.attempt for row in take(worker, [id], is_redelivered=True)] == [2]
    assert [row.attempt for row in take(worker, [id], is_redelivered=True)] == [3]
    assert await database.fetchval("SELECT status FROM predictions") == "running"


async def test_a_row_with_an_earlier_attempt_is_claimed_at_a_first_delivery(
    worker: Predictions, database: asyncpg.Connection
) -> None:
    fresh, claimed = await queue(database, 2)
    take(worker, [claimed], is_slow=True)
    rows = take(worker, [fresh, claimed])
    assert [(row.id, row.attempt) for row in rows] == [(fresh, 0), (claimed, 2)]
    assert worker.write([succeed(row) for row in rows], FORWARD_PASS) == {fresh, claimed}
    stored = await database.fetch("SELECT id, status, attempt FROM predictions")
    assert {tuple(row) for row in stored} == {(fresh, "succeeded", 1), (claimed, "succeeded", 2)}


@pytest.mark.parametrize("is_slow", [False, True], ids=["read", "claimed"])
async def test_a_row_holds_the_time_that_it_waited(
    *, is_slow: bool, worker: Predictions, database: asyncpg.Connection
) -> None:
    ids = await queue(database)
    await database.execute("""UPDATE predictions SET "timestamp" = "timestamp" - interval '1 minute'""")
    (row,) = take(worker, ids, is_slow=is_slow)
    uploaded: datetime | None = await database.fetchval('SELECT "timestamp" FROM predictions')
    assert uploaded
    assert row.queue_ms == pytest.approx((row.started_at - uploaded).total_seconds() * 1000, abs=0.001)
    assert row.queue_ms > 60_000


async def test_each_row_of_a_batch_gets_its_own_outcome(
    worker: Predictions, database: asyncpg.Connection
) -> None:
    good, bad = take(worker, await queue(database, 2))
    written = worker.write([succeed(good), Failed(bad, "Failed", "Try again.")], FORWARD_PASS)
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


@pytest.mark.parametrize("how", [{}, {"is_slow": True}, {"is_redelivered": True}], ids=str)
async def test_a_terminal_or_deleted_row_cannot_be_taken(
    how: dict[str, bool], worker: Predictions, database: asyncpg.Connection
) -> None:
    (row,) = take(worker, await queue(database))
    worker.write([succeed(row)], FORWARD_PASS)
    assert take(worker, [row.id, uuid.uuid4()], **how) == []


async def test_the_outcomes_of_a_message_that_was_published_twice_are_written_once(
    worker: Predictions, database: asyncpg.Connection
) -> None:
    ids = await queue(database, 2)
    first, second = take(worker, ids), take(worker, ids)
    assert worker.write([succeed(row) for row in first], FORWARD_PASS) == set(ids)
    assert worker.write([Failed(row, "Twice", "") for row in second], FORWARD_PASS) == set()
    stored = await database.fetch("SELECT status, attempt FROM predictions")
    assert {tuple(row) for row in stored} == {("succeeded", 1)}


async def test_a_canceled_row_of_a_group_stays_canceled_and_the_others_are_written(
    worker: Predictions, database: asyncpg.Connection
) -> None:
    rows = take(worker, await queue(database, 3))
    await database.execute(
        "UPDATE predictions SET status = 'canceled', completed_at = now() WHERE id = $1", rows[1].id
    )
    assert worker.write([succeed(row) for row in rows], FORWARD_PASS) == {rows[0].id, rows[2].id}
    stored = await database.fetchrow(
        "SELECT status, attempt, prediction FROM predictions WHERE id = $1", rows[1].id
    )
    assert stored is not None
    assert tuple(stored) == ("canceled", 0, None)


async def test_an_outcome_of_an_older_attempt_changes_nothing(
    worker: Predictions, database: asyncpg.Connection
) -> None:
    ids = await queue(database)
    (read,) = take(worker, ids)
    (claimed,) = take(worker, ids, is_slow=True)
    (latest,) = take(worker, ids, is_redelivered=True)
    assert (claimed.attempt, latest.attempt) == (1, 2)
    for stale in read, claimed:
        assert worker.write([Failed(stale, "Late", "")], FORWARD_PASS) == set()
    assert await database.fetchval("SELECT status FROM predictions") == "running"
    assert worker.write([succeed(latest)], FORWARD_PASS) == {latest.id}
    assert worker.write([Failed(latest, "Twice", "")], FORWARD_PASS) == set()
    assert await database.fetchval("SELECT status FROM predictions") == "succeeded"


async def test_writing_returns_the_ids_of_the_rows_that_changed(
    worker: Predictions, database: asyncpg.Connection
) -> None:
    stale, good = take(worker, await queue(database, 2))
    take(worker, [stale.id], is_redelivered=True)
    assert worker.write([succeed(stale), succeed(good)], FORWARD_PASS) == {good.id}


@pytest.mark.parametrize("is_claimed_at_first", [False, True], ids=["read", "claimed"])
async def test_after_three_attempts_a_row_fails_with_a_reason(
    *, is_claimed_at_first: bool, worker: Predictions, database: asyncpg.Connection
) -> None:
    ids = await queue(database)
    take(worker, ids, is_slow=is_claimed_at_first)
    for attempt in range(2, MAX_ATTEMPTS + 1):
        assert [row.attempt for row in take(worker, ids, is_redelivered=True)] == [attempt]
    (failed,) = worker.take(ids, is_redelivered=True)
    assert isinstance(failed, Failed)
    assert worker.take(ids, is_redelivered=True) == []
    row = await database.fetchrow("SELECT * FROM predictions")
    assert row is not None
    assert (row["status"], row["error_title"], row["attempt"]) == ("failed", "Failed after 3 attempts", 3)
    assert "3 times" in row["error_detail"]
    assert (failed.title, failed.detail) == (row["error_title"], row["error_detail"])


async def test_a_broken_connection_is_opened_again(worker: Predictions, database: asyncpg.Connection) -> None:
    ids = await queue(database)
    (row,) = take(worker, ids)
    worker.write([Failed(replace(row, attempt=7), "Late", "")], FORWARD_PASS)  # connects, and changes nothing
    for use in (lambda: take(worker, ids), lambda: worker.write([succeed(row)], FORWARD_PASS)):
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'inference'"
        )
        assert len(await asyncio.to_thread(use)) == 1


def test_a_worker_that_shuts_down_does_not_wait_for_the_database() -> None:
    stopping = threading.Event()
    stopping.set()
    away = Predictions("postgresql://x:x@127.0.0.1:1/x", stopping)
    with pytest.raises(Stopped):
        away.take([uuid.uuid4()])
