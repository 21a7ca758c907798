"""Retention removes old ended predictions. One backend at a time does this, and no event is written."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from backend import retention
from backend.history import first_id_at
from backend.retention import LOCK, Retention
from backend.settings import Settings
from scripts.local.config import Config
from tests.backend.conftest import Serve
from tests.conftest import eventually

INSERT = """INSERT INTO predictions (id, filename, "timestamp", pixels, status, error_title, completed_at)
    VALUES ($1, $2, $3, decode(repeat('00', 3072), 'hex'), $4::text::prediction_status,
        CASE WHEN $4 = 'failed' THEN 'x' END, CASE WHEN $4 IN ('failed', 'canceled') THEN now() END)"""


async def insert(database: asyncpg.Connection, days: float, status: str, count: int = 1) -> None:
    """Insert `count` predictions of this age. The file name holds the age in days and the status."""
    for _ in range(count):
        moment = datetime.now(UTC) - timedelta(days=days)
        id = UUID(int=first_id_at(moment).int | uuid4().int & (1 << 80) - 1)
        await database.execute(INSERT, id, f"{days} {status}", moment, status)


async def names(database: asyncpg.Connection) -> list[str]:
    return [row["filename"] for row in await database.fetch("SELECT filename FROM predictions ORDER BY id")]


async def test_only_old_ended_predictions_are_removed_and_no_event_is_written(
    database: asyncpg.Connection, servers: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS", 2)
    for days in (40, 31, 29, 0):
        for status, count in (("queued", 1), ("running", 1), ("failed", 3), ("canceled", 1)):
            await insert(database, days, status, count)
    last = await database.fetchval("SELECT max(number) FROM events")
    notifications: list[object] = []
    await database.add_listener("outcomes", lambda *args: notifications.append(args))
    assert await Retention(servers.database_url("backend"), 30).sweep() == 8
    kept = [f"{days} {status}" for days in (40, 31) for status in ("queued", "running")]
    for days in (29, 0):
        kept += [f"{days} {status}" for status in ("queued", "running", *["failed"] * 3, "canceled")]
    assert sorted(await names(database)) == sorted(kept)
    await database.execute("SELECT 1")  # a notification would arrive before this answer
    assert (await database.fetchval("SELECT max(number) FROM events"), notifications) == (last, [])
    await database.execute("DELETE FROM predictions WHERE filename = '0 failed'")  # not by retention
    await database.execute("SELECT 1")
    assert len(notifications) == 1
    assert await database.fetchval("SELECT count(*) FROM events WHERE number > $1", last) == 3


async def test_a_backend_removes_nothing_while_another_holds_the_lock(
    database: asyncpg.Connection, servers: Config
) -> None:
    await insert(database, 40, "failed")
    sweep = Retention(servers.database_url("backend"), 30).sweep
    await database.execute(LOCK)
    assert await sweep() == 0
    await database.execute("SELECT pg_advisory_unlock_all()")
    assert await sweep() == 1


async def test_a_locked_row_is_left_for_the_next_sweep(database: asyncpg.Connection, servers: Config) -> None:
    await insert(database, 40, "failed", 2)
    sweep = Retention(servers.database_url("backend"), 30).sweep
    async with asyncio.timeout(10), database.transaction():
        await database.execute(
            "SELECT FROM predictions WHERE id = (SELECT id FROM predictions ORDER BY id LIMIT 1) FOR UPDATE"
        )
        assert await sweep() == 1
    assert await sweep() == 1


@pytest.mark.parametrize(
    ("days", "left"),
    [(30, ["20 failed"]), (0, ["40 failed", "20 failed"])],
    ids=["30 days", "0 keeps all predictions"],
)
async def test_a_backend_removes_predictions_older_than_its_setting(
    days: int, left: list[str], database: asyncpg.Connection, serve: Serve, settings: Settings
) -> None:
    await insert(database, 40, "failed")
    await insert(database, 20, "failed")
    api = await serve(settings.model_copy(update={"retention_days": days}))

    async def swept() -> bool:
        return len(await names(database)) == len(left)

    await eventually(swept)
    assert (await api.client.get("/api/predictions")).status_code == 200
    assert await names(database) == left


async def test_sweeps_continue_after_the_database_was_unavailable(
    database: asyncpg.Connection,
    servers: Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(retention, "SWEEP_SECONDS", 0.05)
    await insert(database, 40, "failed")
    await database.execute("ALTER ROLE backend NOLOGIN")
    cleaning = asyncio.create_task(Retention(servers.database_url("backend"), 30).run())

    async def tried() -> bool:
        return "cannot remove old predictions" in caplog.text

    try:
        await eventually(tried)
        assert len(await names(database)) == 1
    finally:
        await database.execute("ALTER ROLE backend LOGIN")

    async def swept() -> bool:
        return await names(database) == []

    await eventually(swept)
    cleaning.cancel()
    await asyncio.wait([cleaning])
