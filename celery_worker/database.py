"""A worker's connections to PostgreSQL."""

import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, LiteralString

import psycopg

from celery_worker.errors import Stopped

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


def connect(url: str, name: str, options: str | None = None) -> psycopg.Connection[Any]:
    """Open a connection that commits each statement. Statements write their parameters as `$1`.

    `name` is shown in PostgreSQL's list of sessions. Raises psycopg.OperationalError.
    """
    return psycopg.connect(
        url,
        autocommit=True,
        cursor_factory=psycopg.RawCursor,
        options=options,
        application_name=name,
        connect_timeout=5,
        # The settings below detect a server that no longer answers, even on a connection that sends nothing.
        keepalives_idle=5,
        keepalives_interval=5,
        keepalives_count=2,
        tcp_user_timeout=10_000,  # in milliseconds; the other times are in seconds
    )


class Connection:
    """A connection that is opened again whenever it breaks. One thread at a time may use it."""

    def __init__(self, url: str, name: str, stopping: threading.Event, options: str | None = None) -> None:
        self._connect = partial(connect, url, name, options)
        self._stopping = stopping
        self._connection: psycopg.Connection[Any] | None = None

    def execute(self, statement: LiteralString, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows. Retries until the database is reachable.

        Raises Stopped if the worker shuts down meanwhile.
        """
        while True:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                return self._connection.execute(statement, parameters, prepare=True, binary=True).fetchall()
            except psycopg.OperationalError as error:
                logger.warning("the database is unreachable, trying again: %s", str(error).strip())
                self.close()
                if self._stopping.wait(RETRY_SECONDS):
                    raise Stopped from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
