"""Removes old predictions, if a limit of age is set, in steps that cost the others next to nothing."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from backend.history import time_bound

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 600.0
ROWS = 500  # of a step
PAUSE = 4  # times as long as the step took: at most a fifth of one core, and of the disk
TIMEOUT_SECONDS = 30
# schema.sql makes no events of what is removed over such a connection: nobody follows what ended days ago.
# A removal that a crash forgets is repeated, so no step waits for the disk.
SERVER_SETTINGS = {
    "application_name": "backend retention",
    "cifar.events": "off",
    "synchronous_commit": "off",
}

# Whether this backend is the one that removes: the lock is held until the connection ends.
LOCK = "SELECT pg_try_advisory_lock(24)"

# Remove some of the oldest predictions that have ended, above one id and below another; returns the last one.
REMOVE_OLD = """
WITH removed AS (
    DELETE FROM predictions WHERE id IN (
        SELECT id FROM predictions WHERE id > $1 AND id < $2 AND status NOT IN ('queued', 'running')
        ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED)
    RETURNING id)
SELECT id, count(*) OVER () AS count FROM removed ORDER BY id DESC LIMIT 1
"""

STATEMENTS = {"LOCK": LOCK, "REMOVE_OLD": REMOVE_OLD}


class Retention:
    def __init__(self, database_url: str, days: int) -> None:
        """`days`: the age at which a prediction is removed; 0 keeps all."""
        self._database_url = database_url
        self._days = days
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._days:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def sweep(self) -> int:
        """Remove all predictions that are old enough and have ended; returns how many. Only one backend at
        a time does it: the others remove none."""
        connection = await asyncpg.connect(
            self._database_url,
            timeout=TIMEOUT_SECONDS,
            command_timeout=TIMEOUT_SECONDS,
            server_settings=SERVER_SETTINGS,
        )
        try:
            if not await connection.fetchval(LOCK):
                return 0
            bound = time_bound(datetime.now(UTC) - timedelta(days=self._days))
            return await _remove(connection, bound)
        finally:
            connection.terminate()

    async def _run(self) -> None:
        while True:
            try:
                if removed := await self.sweep():
                    logger.info("old predictions removed", extra={"predictions": removed})
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                logger.warning("cannot remove old predictions, trying again: %r", error)
            await asyncio.sleep(SWEEP_SECONDS)


async def _remove(connection: asyncpg.Connection, bound: UUID) -> int:
    removed, after = 0, UUID(int=0)
    while True:
        started = time.monotonic()
        row = await connection.fetchrow(REMOVE_OLD, after, bound, ROWS)
        if row is None:
            return removed
        removed, after = removed + row["count"], row["id"]
        await asyncio.sleep(PAUSE * (time.monotonic() - started))
