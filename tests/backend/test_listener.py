"""A listening connection that hangs is reported by `/api/health` and replaced."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import pytest

from backend.listener import CHECK_SECONDS, TIMEOUT_SECONDS
from backend.settings import Settings
from scripts.local.config import Config
from tests.backend.conftest import Api, Finish, Reader, Serve, serve_connected
from tests.conftest import eventually


class Wire:
    """A TCP proxy in front of the database. It can freeze the connections that have sent LISTEN."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._freezing = asyncio.Event()
        self._carrying: set[asyncio.Task[None]] = set()
        self._ends: list[asyncio.StreamWriter] = []
        self.frozen = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_database, to_database = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends += [writer, to_database]
        listening = False

        async def send(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            nonlocal listening
            with suppress(OSError):
                while data := await source.read(65536):
                    listening = listening or b"LISTEN" in data
                    if listening and self._freezing.is_set():
                        self.frozen += 1
                        await asyncio.Event().wait()
                    to.write(data)
                    await to.drain()
            to.close()

        for source, to in ((reader, to_database), (from_database, writer)):
            self._carrying.add(asyncio.create_task(send(source, to)))

    def freeze_listeners(self) -> None:
        """The connections stay open, but no data arrives."""
        self._freezing.set()

    def let_new_listeners_through(self) -> None:
        self._freezing.clear()

    async def close(self) -> None:
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        for end in self._ends:
            end.transport.abort()
        await asyncio.gather(*(end.wait_closed() for end in self._ends), return_exceptions=True)


@pytest.fixture
async def wire(servers: Config) -> AsyncGenerator[tuple[Wire, int]]:
    wire = Wire(servers.ports["postgres"])
    async with await asyncio.start_server(wire.carry, "127.0.0.1", 0) as server:
        yield wire, server.sockets[0].getsockname()[1]
        await wire.close()


@pytest.fixture
async def api(wire: tuple[Wire, int], serve: Serve, settings: Settings, servers: Config) -> Api:
    url = settings.database_url.get_secret_value()
    through = url.replace(f":{servers.ports['postgres']}/", f":{wire[1]}/")
    assert through != url
    return await serve_connected(
        serve, Settings.model_validate(settings.model_dump() | {"database_url": through})
    )


async def test_a_hanging_listening_connection_is_replaced_and_no_event_is_missed(
    api: Api, cat: bytes, wire: tuple[Wire, int], finish: Finish
) -> None:
    prediction = (await api.upload(cat)).json()
    reader = Reader(api, prediction["urls"]["events"])
    await reader.until(1)
    wire[0].freeze_listeners()
    await finish(prediction["id"])
    await reader.done  # the event was read without a notification

    async def database() -> dict[str, object]:
        return (await api.client.get("/api/health")).json()["components"]["database"]

    async def is_not_listening() -> bool:
        return not (await database())["listening"]

    await eventually(is_not_listening, CHECK_SECONDS + 2 * TIMEOUT_SECONDS)
    late = await database()
    assert late["status"] == "ok"
    assert "late" in str(late["detail"])
    wire[0].let_new_listeners_through()

    async def is_listening() -> bool:
        return bool((await database())["listening"])

    await eventually(is_listening)
    assert (await database())["detail"] is None
    assert wire[0].frozen
