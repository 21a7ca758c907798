"""Removes old predictions in small steps, if the setting `retention_days` limits their age."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from backend.history import first_id_at

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 600.0
ROWS = 500  # in one step
# The pause after a step is this many times as long as the step. So removing uses at most a fifth of the time
# of one core.
PAUSE_FACTOR = 4
TIMEOUT_SECONDS = 30
# `cifar.events`: the trigger `predictions_deleted` writes no events. No client follows such old predictions.
# `synchronous_commit`: no step waits for the disk. A later sweep repeats a removal that a crash has undone.
SERVER_SETTINGS = {
    "application_name": "backend retention",
    "cifar.events": "off",
    "synchronous_commit": "off",
}

# Only the backend that holds this lock removes rows. The lock is released when its connection ends.
LOCK = "SELECT pg_try_advisory_lock(24)"

# Remove the oldest ended predictions between two ids; returns the last id and the number of rows.
REMOVE_OLD = """
WITH removed AS (
    DELETE FROM predictions WHERE id IN (
        SELECT id FROM predictions WHERE id > $1 AND id < $2 AND status NOT IN ('queued', 'running')
        ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED)
    RETURNING id)
SELECT id, count(*) OVER () AS count FROM removed ORDER BY id DESC LIMIT 1
"""


class Retention:
    """Looks every ten minutes for old predictions and removes them."""

    def __init__(self, database_url: str, days: int) -> None:
        """`days`: the age at which predictions are removed; 0 keeps all predictions."""
        self._database_url = database_url
        self._days = days

    async def run(self) -> None:
        """Remove old predictions until this task is canceled."""
        while self._days:
            try:
                if removed := await self.sweep():
                    logger.info("old predictions removed", extra={"predictions": removed})
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                logger.warning("cannot remove old predictions, trying again: %r", error)
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> int:
        """Remove the old predictions that have ended, except locked ones; returns their number.

        Removes nothing while another backend does this work.
        """
        connection = await asyncpg.connect(
            self._database_url,
            timeout=TIMEOUT_SECONDS,
            command_timeout=TIMEOUT_SECONDS,
            server_settings=SERVER_SETTINGS,
        )
        try:
            if not await connection.fetchval(LOCK):
                return 0
            bound = first_id_at(datetime.now(UTC) - timedelta(days=self._days))
            removed, after = 0, UUID(int=0)
            while True:
                started = time.monotonic()
                row = await connection.fetchrow(REMOVE_OLD, after, bound, ROWS)
                if row is None:
                    return removed
                removed, after = removed + row["count"], row["id"]
                await asyncio.sleep(PAUSE_FACTOR * (time.monotonic() - started))
        finally:
            connection.terminate()
