"""The connection for PostgreSQL's notifications. It is replaced when it breaks or hangs."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import asyncpg

from backend.errors import RETRY_SECONDS

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 3  # for each answer of PostgreSQL
REREAD_SECONDS = 5.0  # without a notification, changes are read after this time: notifications may be lost
CHECK_SECONDS = 5.0  # a hanging connection is noticed within this time plus TIMEOUT_SECONDS


class Listener:
    """Passes the payload of each notification to the handler of its channel."""

    def __init__(self, database_url: str, handlers: Mapping[str, Callable[[str], None]]) -> None:
        self._database_url = database_url
        self._handlers = handlers
        self.listening = False

    async def run(self, on_connect: Callable[[], None]) -> None:
        """Listen until canceled. Calls `on_connect` after each connect: earlier notifications are lost."""
        while True:
            try:
                await self._listen(on_connect)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                logger.warning("cannot listen for changes, trying again: %r", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, on_connect: Callable[[], None]) -> None:
        """Listen over one connection until it breaks."""
        connection = await asyncpg.connect(
            self._database_url,
            timeout=TIMEOUT_SECONDS,
            command_timeout=TIMEOUT_SECONDS,
            server_settings={"application_name": "backend listener"},
        )
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _: closed.set())
        try:
            for channel in self._handlers:
                await connection.add_listener(channel, self._handle)
            self.listening = True
            on_connect()
            while not closed.is_set():
                await connection.execute("SELECT 1")
                with suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_SECONDS):
                        await closed.wait()
        finally:
            self.listening = False
            connection.terminate()

    def _handle(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        self._handlers[channel](str(payload))
