"""The ways to PostgreSQL: a pool for each kind of work, and statements that stand alone."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from sqlalchemy import Row, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from backend.errors import BadParameter, DatabaseAway, SearchTooLong, TooManySearches

# The database answers.
PING = "SELECT 1"

STATEMENTS = {"PING": PING}

SEARCH_CONNECTIONS = 2  # on two cores a third search would only make the others slower
SEARCH_SECONDS = 5
SEARCH_WAIT_SECONDS = 2  # for a connection, before the answer is 503
EXPORT_SECONDS = 60  # for one page: a filter that lets little through reads much
EXPORT_WAIT_SECONDS = 10
HEALTH_WAIT_SECONDS = 5
WAIT_SECONDS = 5
COMMAND_SECONDS = 10
CANCELED = "57014"  # SQLSTATE of a statement that its timeout, or the operator, has ended


class Database:
    """Runs statements over a pool.

    Raises DatabaseAway when there is no answer in time, BadParameter for values that it cannot take, and
    SearchTooLong for a statement that the pool's own timeout has ended.
    """

    def __init__(self, engine: AsyncEngine, *, expensive: bool = False) -> None:
        """The statements of an `expensive` pool wait for one another: TooManySearches if for too long."""
        self._engine = engine
        self._expensive = expensive

    @property
    def connections_in_use(self) -> int:
        return cast("QueuePool", self._engine.pool).checkedout()

    async def fetch(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Run one statement, committed by itself, and return its rows. Raises DatabaseAway."""
        async with self._connect() as connection:
            found = await connection.execute(text(statement), parameters)
            return found.all() if found.returns_rows else []

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def _connect(self) -> AsyncGenerator[AsyncConnection]:
        try:
            async with self._engine.connect() as connection:
                yield connection
        except PoolTimeout as error:
            if not self._expensive:
                raise DatabaseAway("The service cannot reach its database; try again shortly.") from error
            raise TooManySearches(
                "Other searches or exports of the history run already. Try again in a few seconds."
            ) from error
        except (DBAPIError, OSError, TimeoutError) as error:
            code = getattr(getattr(error, "orig", None), "sqlstate", None) or "08000"
            if code == CANCELED and self._expensive:
                raise SearchTooLong(
                    "The history was not searched through in time. Give at least three letters or digits in "
                    "a row of the file name, or narrow the search by `from` and `to`, or by `label`."
                ) from error
            # connection, refused login, no such database, resources, the operator's shutdown
            if code.startswith(("08", "28", "3D", "53", "57")):
                raise DatabaseAway("The service cannot reach its database; try again shortly.") from error
            if code.startswith("22"):  # a value that the database cannot take, such as a NUL in a text
                detail = "A value in the request has characters or a form that cannot be used here."
                raise BadParameter(detail) from error
            raise


def connect(url: str, connections: int) -> Database:
    """The pool for all that is quick."""
    return Database(_build_engine(url, connections, WAIT_SECONDS, COMMAND_SECONDS, {}))


def connect_for_health(url: str) -> Database:
    """A connection of the health report's own: a full pool says nothing about the database."""
    return Database(_build_engine(url, 1, HEALTH_WAIT_SECONDS, COMMAND_SECONDS, {}))


def connect_for_searches(url: str) -> Database:
    """The pool for reads of the history that may take long, so that nothing else waits for them."""
    return _connect_for_reading(url, SEARCH_CONNECTIONS, SEARCH_WAIT_SECONDS, SEARCH_SECONDS)


def connect_for_exports(url: str) -> Database:
    """A connection that exports take for each of their pages in turn."""
    return _connect_for_reading(url, 1, EXPORT_WAIT_SECONDS, EXPORT_SECONDS)


def _connect_for_reading(url: str, connections: int, wait_seconds: int, seconds: int) -> Database:
    server_settings = {
        "statement_timeout": str(seconds * 1000),
        "max_parallel_workers_per_gather": "0",  # a search takes one core, not all of them
        "plan_cache_mode": "force_custom_plan",  # the best plan depends on how frequent the value is
    }
    engine = _build_engine(url, connections, wait_seconds, seconds + 5, server_settings)
    return Database(engine, expensive=True)


def _build_engine(
    url: str, connections: int, wait_seconds: int, command_seconds: int, server_settings: dict[str, str]
) -> AsyncEngine:
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        isolation_level="AUTOCOMMIT",  # every statement stands alone
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_seconds,
        pool_use_lifo=True,
        connect_args={
            "timeout": 5,
            "command_timeout": command_seconds,
            "server_settings": {"application_name": "backend", **server_settings},
        },
    )
