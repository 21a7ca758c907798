"""The relay: a row whose message is lost is published again, and only such a row."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import asyncpg
import pytest

from backend.messages import TaskMessage, classify, train
from backend.relay import Relay
from scripts.local.config import Config
from tests.backend.conftest import Api
from tests.backend.test_trainings import CLAIM, SUCCEED, start
from tests.conftest import eventually


async def age(database: asyncpg.Connection, id: str, seconds: int) -> None:
    await database.execute(
        """UPDATE predictions SET "timestamp" = "timestamp" - $2::interval,
               started_at = started_at - $2::interval WHERE id = $1""",
        id,
        timedelta(seconds=seconds),
    )


async def upload(api: Api, image: bytes) -> dict[str, Any]:
    return (await api.upload(image)).json()


async def lost(api: Api, *, queue_is_empty: bool) -> list[str]:
    return [str(id) for id in await api.services.predictions.find_lost(queue_is_empty=queue_is_empty)]


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


async def test_a_training_that_waits_though_the_queue_is_empty_has_lost_its_message(
    api: Api, database: asyncpg.Connection
) -> None:
    id = UUID((await start(api))["id"])
    find_lost = api.services.trainings.find_lost
    assert await find_lost(queue_is_empty=True) == []
    await database.execute("""UPDATE trainings SET "timestamp" = now() - interval '6 seconds'""")
    assert await find_lost(queue_is_empty=True) == [id]
    assert await find_lost(queue_is_empty=False) == []
    await database.execute(CLAIM, id)
    assert await find_lost(queue_is_empty=True) == []


async def test_a_training_whose_worker_went_silent_has_lost_it(
    api: Api, database: asyncpg.Connection
) -> None:
    id = UUID((await start(api))["id"])
    await database.execute(CLAIM, id)
    lost: list[tuple[bool, bool]] = []
    for seconds in (15, 25, 3600):
        silence = timedelta(seconds=seconds)
        await database.execute("UPDATE trainings SET seen_at = now() - $1::interval", silence)
        found = [await api.services.trainings.find_lost(queue_is_empty=empty) for empty in (True, False)]
        lost.append((found[0] == [id], found[1] == [id]))
    # A message that waits for an hour with others needs no company.
    assert lost == [(False, False), (True, True), (True, False)]
    await database.execute(SUCCEED, id)
    assert await api.services.trainings.find_lost(queue_is_empty=True) == []


async def test_a_training_that_was_handed_back_has_lost_its_message_though_others_wait(
    api: Api, database: asyncpg.Connection
) -> None:
    id = UUID((await start(api))["id"])
    await start(api)
    assert await api.services.trainings.find_lost(queue_is_empty=False) == []
    await database.execute("UPDATE trainings SET seen_at = now() WHERE id = $1", id)
    assert await api.services.trainings.find_lost(queue_is_empty=False) == [id]
    await database.execute("UPDATE trainings SET seen_at = now() - interval '61 seconds'")
    assert await api.services.trainings.find_lost(queue_is_empty=False) == []


@pytest.mark.parametrize(
    ("queue", "table", "task"),
    [("inference", "predictions", "inference.classify"), ("training", "trainings", "training.train")],
)
async def test_what_has_lost_its_message_is_published_again_by_the_relay_s_own_tick_and_given_time(
    queue: str, table: str, task: str, api: Api, cat: bytes, database: asyncpg.Connection, servers: Config
) -> None:
    relay = api.services.relay

    async def published() -> bool:
        return (await api.services.broker.inspect(queue)).depth > 0

    reader = await aio_pika.connect(servers.broker_url("backend"))
    async with reader:
        messages = await (await reader.channel()).declare_queue(queue, passive=True)
        await messages.purge()
        id = (await (start(api) if queue == "training" else upload(api, cat)))["id"]
        await eventually(published)
        await messages.purge()
        await database.execute(f"""UPDATE {table} SET "timestamp" = now() - interval '6 seconds'""")
        await eventually(published)
        message = await messages.get(timeout=5)
        assert message is not None
        await message.ack()
        assert (message.headers["task"], message.headers["id"]) == (task, id)
        again = relay.relay_lost_trainings() if queue == "training" else relay.relay_lost()
        assert (await again, relay.relayed) == ([], 1)


class SlowBroker:
    """Confirms when it is told to."""

    def __init__(self) -> None:
        self.confirms = asyncio.Event()
        self.published: list[UUID] = []

    async def publish(self, messages: Sequence[TaskMessage]) -> None:
        await self.confirms.wait()
        self.published += [message.id for message in messages]

    async def announce(self, messages: Sequence[TaskMessage]) -> None:
        pass


async def test_a_stop_ends_the_publishing_that_is_under_way_and_what_waits(api: Api) -> None:
    broker = SlowBroker()
    serve = api.services
    relay = Relay(serve.predictions, serve.trainings, broker)  # pyright: ignore[reportArgumentType]
    relay.start()
    first, second = uuid4(), uuid4()
    relay.publish_soon([classify(first)])
    await asyncio.sleep(0)
    relay.publish_soon([train(second)])
    stopping = asyncio.create_task(relay.stop())
    await asyncio.sleep(0)
    broker.confirms.set()
    await stopping
    assert broker.published == [first, second]
