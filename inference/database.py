"""A connection to PostgreSQL as every part of the worker has it."""

from typing import Any

import psycopg

TIMEOUTS: dict[str, int] = {
    "connect_timeout": 5,
    # A server that vanished without a word is noticed: this connection may never send much.
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}


def connect(url: str, name: str, options: str | None = None) -> psycopg.Connection[Any]:
    """Each statement stands alone, with `$1` for a value; `name` is what PostgreSQL's list of sessions shows.

    Raises psycopg.OperationalError.
    """
    return psycopg.connect(
        url,
        autocommit=True,
        cursor_factory=psycopg.RawCursor,
        options=options,
        application_name=name,
        **TIMEOUTS,  # pyright: ignore[reportArgumentType]
    )
