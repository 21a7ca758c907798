"""The direct connection, for the most frequent statements."""

from collections.abc import AsyncGenerator
from typing import Any

import asyncpg
import pytest

from backend.database import DirectConnection
from backend.errors import DatabaseAway, Refusal
from scripts.local.config import Config, find_free_ports
from tests.backend.conftest import refuses
from tests.conftest import eventually

PID = "SELECT pg_backend_pid() AS pid"


@pytest.fixture
async def direct(servers: Config) -> AsyncGenerator[DirectConnection]:
    connection = DirectConnection(servers.database_url("backend"))
    yield connection
    connection.close()


async def test_parameters_have_names_and_columns_are_attributes(direct: DirectConnection) -> None:
    statement = "SELECT CAST(:a AS int) - CAST(:b AS int) AS difference, CAST(:a AS int) AS a"
    (row,) = await direct.fetch(statement, {"b": 2, "a": 7})
    assert (row.difference, row.a) == (5, 7)


async def test_a_connection_that_was_cut_is_opened_again(
    direct: DirectConnection, database: asyncpg.Connection
) -> None:
    (first,) = await direct.fetch(PID)
    await database.execute("SELECT pg_terminate_backend($1)", first.pid)

    async def reconnected() -> Any:
        try:
            (row,) = await direct.fetch(PID)
        except DatabaseAway:  # only the first statement on the broken connection fails
            return None
        return row.pid != first.pid

    await eventually(reconnected)


async def test_driver_errors_become_service_errors_unless_the_sql_is_wrong(direct: DirectConnection) -> None:
    with refuses(Refusal.BAD_PARAMETER):
        await direct.fetch("SELECT CAST(:text AS text)", {"text": "\0"})
    with pytest.raises(asyncpg.UndefinedTableError):
        await direct.fetch("SELECT FROM nothing_there")
    (port,) = find_free_ports(1)
    with pytest.raises(DatabaseAway):
        await DirectConnection(f"postgresql://backend:x@127.0.0.1:{port}/cifar").fetch(PID)
