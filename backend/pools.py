"""The pools of connections to PostgreSQL: one for each kind of work, so slow reads delay nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row
from sqlalchemy.engine import make_url
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from backend.database import COMMAND_SECONDS, CONNECT_SECONDS, SERVER_SETTINGS, Pool
from backend.errors import DatabaseAway, Refusal, ServiceError

SEARCH_CONNECTIONS = 2  # on two cores a third search would only slow down the others
SEARCH_SECONDS = 5
SEARCH_WAIT_SECONDS = 2.0  # for a free connection, before the answer is 503
EXPORT_SECONDS = 60  # for one page: if few rows match, PostgreSQL reads many to fill it
EXPORT_WAIT_SECONDS = 10.0
WAIT_SECONDS = 5.0
QUERY_CANCELED = "57014"  # SQLSTATE of a statement that timed out


class ExpensivePool(Pool):
    """Runs statements that may take long. They wait for a free connection and have a timeout.

    `fetch` also raises TOO_MANY_SEARCHES if no connection is free in time, SEARCH_TOO_LONG at the timeout.
    """

    async def fetch(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        try:
            return await super().fetch(statement, parameters)
        except DatabaseAway as error:
            if isinstance(error.__cause__, PoolTimeout):
                detail = "Other searches or exports of the history are running. Try again in a few seconds."
                raise ServiceError(Refusal.TOO_MANY_SEARCHES, detail) from error
            if getattr(getattr(error.__cause__, "orig", None), "sqlstate", None) == QUERY_CANCELED:
                raise ServiceError(
                    Refusal.SEARCH_TOO_LONG,
                    "The search of the history timed out. Give at least three consecutive letters or digits "
                    "of the file name, or narrow the search with `from` and `to`, or with `label`.",
                ) from error
            raise


class Pools:
    """The pools to one database. They connect when they are first used."""

    def __init__(self, url: str, connections: int) -> None:
        """`connections`: the size of the main pool."""
        self.main = Pool(_build_engine(url, connections, WAIT_SECONDS))
        # The health report must also work while all connections of the main pool are in use.
        self.health = Pool(_build_engine(url, 1, WAIT_SECONDS))
        searches = _build_engine(url, SEARCH_CONNECTIONS, SEARCH_WAIT_SECONDS, SEARCH_SECONDS)
        self.searches = ExpensivePool(searches)
        # Exports share one connection. Each takes it for one page at a time.
        self.exports = ExpensivePool(_build_engine(url, 1, EXPORT_WAIT_SECONDS, EXPORT_SECONDS))

    async def close(self) -> None:
        for pool in (self.exports, self.searches, self.health, self.main):
            await pool.close()


def _build_engine(url: str, connections: int, wait_seconds: float, timeout_seconds: int = 0) -> AsyncEngine:
    """`timeout_seconds`: PostgreSQL's timeout of a statement; 0: only `command_timeout`."""
    expensive = {
        "statement_timeout": str(timeout_seconds * 1000),
        "max_parallel_workers_per_gather": "0",  # a search uses one core only
        "plan_cache_mode": "force_custom_plan",  # the best plan depends on the value
    }
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        isolation_level="AUTOCOMMIT",  # each statement is a transaction of its own
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_seconds,
        pool_use_lifo=True,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": max(COMMAND_SECONDS, timeout_seconds + 5),
            "server_settings": SERVER_SETTINGS | (expensive if timeout_seconds else {}),
        },
    )
