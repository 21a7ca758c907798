"""The pools of connections to PostgreSQL, one for each kind of work, so that none waits for another."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.engine import make_url
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from backend.database import Database
from backend.errors import DatabaseAway, SearchTooLong, TooManySearches

SEARCH_CONNECTIONS = 2  # on two cores a third search would only make the others slower
SEARCH_SECONDS = 5
SEARCH_WAIT_SECONDS = 2.0  # for a connection, before the answer is 503
EXPORT_SECONDS = 60  # for one page: a filter that lets little through reads much
EXPORT_WAIT_SECONDS = 10.0
WAIT_SECONDS = 5.0
COMMAND_SECONDS = 10
CANCELED = "57014"  # SQLSTATE of a statement that its timeout has ended


class ExpensiveReads(Database):
    """Statements that may take long. They wait for one another and end after the pool's timeout.

    Raises TooManySearches when no connection gets free in time, SearchTooLong after the timeout, and what
    Database raises.
    """

    @asynccontextmanager
    async def _connect(self) -> AsyncGenerator[AsyncConnection]:
        try:
            async with super()._connect() as connection:
                yield connection
        except DatabaseAway as error:
            if isinstance(error.__cause__, PoolTimeout):
                raise TooManySearches(
                    "Other searches or exports of the history run already. Try again in a few seconds."
                ) from error
            if getattr(getattr(error.__cause__, "orig", None), "sqlstate", None) == CANCELED:
                raise SearchTooLong(
                    "The history was not searched through in time. Give at least three letters or digits in "
                    "a row of the file name, or narrow the search by `from` and `to`, or by `label`."
                ) from error
            raise


@dataclass(frozen=True)
class Pools:
    """The engine of each kind of work."""

    main: AsyncEngine
    """For all that is quick."""
    health: AsyncEngine
    """For the health report: a full pool says nothing about the database."""
    searches: AsyncEngine
    exports: AsyncEngine
    """One connection, which exports take for each of their pages in turn."""

    async def close(self) -> None:
        for engine in (self.exports, self.searches, self.health, self.main):
            await engine.dispose()


def build_pools(url: str, connections: int) -> Pools:
    """The pools to one database; they connect when they are first used. `connections`: of the main one."""
    return Pools(
        main=_build_engine(url, connections, WAIT_SECONDS),
        health=_build_engine(url, 1, WAIT_SECONDS),
        searches=_build_engine(url, SEARCH_CONNECTIONS, SEARCH_WAIT_SECONDS, SEARCH_SECONDS),
        exports=_build_engine(url, 1, EXPORT_WAIT_SECONDS, EXPORT_SECONDS),
    )


def _build_engine(url: str, connections: int, wait_seconds: float, timeout_seconds: int = 0) -> AsyncEngine:
    """`timeout_seconds`: after which the database ends a statement; 0 if these are not expensive."""
    expensive = {
        "statement_timeout": str(timeout_seconds * 1000),
        "max_parallel_workers_per_gather": "0",  # a search takes one core, not all of them
        "plan_cache_mode": "force_custom_plan",  # the best plan depends on how frequent the value is
    }
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        isolation_level="AUTOCOMMIT",  # every statement stands alone
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_seconds,
        pool_use_lifo=True,
        connect_args={
            "timeout": 5,
            "command_timeout": max(COMMAND_SECONDS, timeout_seconds + 5),
            "server_settings": {"application_name": "backend", **(expensive if timeout_seconds else {})},
        },
    )
