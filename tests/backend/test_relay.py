"""The relay: a row whose message is lost is published again, and only such a row."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg

from backend.messages import ClassifyMessage
from backend.relay import Relay
from tests.backend.conftest import Api


async def age(database: asyncpg.Connection, id: str, seconds: int) -> None:
    await database.execute(
        """UPDATE predictions SET "timestamp" = "timestamp" - $2::interval,
               started_at = started_at - $2::interval WHERE id = $1""",
        id,
        timedelta(seconds=seconds),
    )


async def lost(api: Api, *, queue_is_empty: bool) -> list[str]:
    from backend.predictions import LOST

    rows = await api.services.predictions.fetch(LOST, {"queue_is_empty": queue_is_empty})
    return [str(row.id) for row in rows]


async def test_a_row_that_waits_though_the_queue_is_empty_has_lost_its_message(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    id = (await api.upload(cat)).json()["id"]
    assert await lost(api, queue_is_empty=True) == []
    await age(database, id, 6)
    assert await lost(api, queue_is_empty=True) == [id]
    assert await lost(api, queue_is_empty=False) == []


async def test_a_row_that_a_much_later_one_has_overtaken_has_lost_its_message(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    early, late = [row["id"] for row in (await api.upload(cat, cat)).json()["predictions"]]
    await age(database, early, 20)
    await age(database, late, 10)
    assert await lost(api, queue_is_empty=False) == []
    await database.execute(
        "UPDATE predictions SET status = 'running', started_at = now(), attempt = 1 WHERE id = $1", late
    )
    assert await lost(api, queue_is_empty=False) == [early]


async def test_a_row_that_runs_for_a_minute_has_lost_its_worker(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    id = (await api.upload(cat)).json()["id"]
    await database.execute(
        "UPDATE predictions SET status = 'running', started_at = now(), attempt = 1 WHERE id = $1", id
    )
    assert await lost(api, queue_is_empty=True) == []
    await age(database, id, 61)
    assert await lost(api, queue_is_empty=False) == [id]


async def test_a_message_published_again_is_given_time(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    id = (await api.upload(cat)).json()["id"]
    await database.execute("UPDATE predictions SET status = 'running', started_at = now() WHERE id = $1", id)
    await age(database, id, 61)
    published = [str(id) for id in await api.services.relay.relay_lost()]
    assert published in ([id], [])  # the relay's own tick may have been first
    assert await api.services.relay.relay_lost() == []


class SlowBroker:
    """Confirms when it is told to."""

    def __init__(self) -> None:
        self.confirms = asyncio.Event()
        self.published: list[UUID] = []

    async def publish(self, messages: Sequence[ClassifyMessage]) -> None:
        await self.confirms.wait()
        self.published += [message.id for message in messages]

    async def announce(self, messages: Sequence[ClassifyMessage]) -> None:
        pass


async def test_a_stop_ends_the_publishing_that_is_under_way_and_what_waits(api: Api) -> None:
    broker = SlowBroker()
    relay = Relay(api.services.predictions, broker)  # pyright: ignore[reportArgumentType]
    relay.start()
    first, second = uuid4(), uuid4()
    relay.publish_soon([first])
    await asyncio.sleep(0)
    relay.publish_soon([second])
    stopping = asyncio.create_task(relay.stop())
    await asyncio.sleep(0)
    broker.confirms.set()
    await stopping
    assert broker.published == [first, second]
