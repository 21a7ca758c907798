"""A worker's connection: it is opened again after it breaks, until the worker shuts down."""

import asyncio
import threading

import asyncpg
import pytest

from celery_worker.database import Connection
from celery_worker.errors import Stopped
from scripts.local.config import Config

NAME = "a test of connections"


async def test_a_broken_connection_is_opened_again(servers: Config, database: asyncpg.Connection) -> None:
    connection = Connection(servers.database_url("worker"), NAME, threading.Event())
    for number in range(2):
        assert await asyncio.to_thread(connection.execute, "SELECT $1::integer", [number]) == [(number,)]
        ended = await database.fetchval(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1", NAME
        )
        assert ended
    connection.close()


def test_a_worker_that_shuts_down_does_not_wait_for_the_database() -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopped):
        Connection("postgresql://x:x@127.0.0.1:1/x", NAME, stopping).execute("SELECT 1", ())
