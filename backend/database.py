"""The way to PostgreSQL: one pool, and statements that stand alone."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool

from backend.errors import BadParameter, DatabaseAway

# The database answers.
PING = "SELECT 1"

STATEMENTS = {"PING": PING}


class Database:
    """Runs statements.

    Raises DatabaseAway when there is no answer in time, BadParameter for values that it cannot take.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @property
    def connections_in_use(self) -> int:
        return cast("QueuePool", self._engine.pool).checkedout()

    async def fetch(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Run one statement, committed by itself, and return its rows. Raises DatabaseAway."""
        async with self._connect() as connection:
            found = await connection.execute(text(statement), parameters)
            return found.all() if found.returns_rows else []

    @asynccontextmanager
    async def _connect(self) -> AsyncGenerator[AsyncConnection]:
        try:
            async with self._engine.connect() as connection:
                yield connection
        except (DBAPIError, PoolTimeout, OSError, TimeoutError) as error:
            code = getattr(getattr(error, "orig", None), "sqlstate", None) or "08000"
            # connection, refused login, no such database, resources, the operator's shutdown
            if code.startswith(("08", "28", "3D", "53", "57")):
                raise DatabaseAway("The service cannot reach its database; try again shortly.") from error
            if code.startswith("22"):  # a value that the database cannot take, such as a NUL in a text
                detail = "A value in the request has characters or a form that cannot be used here."
                raise BadParameter(detail) from error
            raise
