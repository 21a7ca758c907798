"""The relay: which messages count as lost, and how rows are published."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import asyncpg
import pytest

from backend import relay as relay_module
from backend.broker import QueueState
from backend.errors import Unavailable
from backend.messages import BULK, INFERENCE, TRAINING, TaskMessage
from backend.predictions import LOST_PAGE
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


async def upload_two(api: Api, image: bytes) -> list[str]:
    return [row["id"] for row in (await api.upload(image, image)).json()["predictions"]]


async def start_running(database: asyncpg.Connection, id: str) -> None:
    """Act as the worker: claim one prediction."""
    await database.execute(
        "UPDATE predictions SET status = 'running', started_at = now(), attempt = 1 WHERE id = $1", id
    )


async def lost(api: Api, *, queue_is_empty: bool, bulk: bool = False) -> list[str]:
    find_lost = api.services.predictions.find_lost
    return [str(id) for id in await find_lost(bulk=bulk, queue_is_empty=queue_is_empty)]


async def test_a_queued_row_with_an_empty_queue_has_lost_its_message(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    id = (await api.upload(cat)).json()["id"]
    assert await lost(api, queue_is_empty=True) == []
    await age(database, id, 6)
    assert await lost(api, queue_is_empty=True) == [id]
    assert await lost(api, queue_is_empty=False) == []


async def test_a_row_overtaken_by_a_much_younger_one_has_lost_its_message(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    early, late = await upload_two(api, cat)
    await age(database, early, 20)
    await age(database, late, 10)
    assert await lost(api, bulk=True, queue_is_empty=False) == []
    await start_running(database, late)
    assert await lost(api, bulk=True, queue_is_empty=False) == [early]


async def test_a_row_overtaken_only_in_another_queue_has_not_lost_its_message(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    early = (await upload(api, cat))["id"]
    late, _ = await upload_two(api, cat)
    await age(database, early, 20)
    await start_running(database, late)
    assert await lost(api, queue_is_empty=False) == []
    single = (await upload(api, cat))["id"]
    await start_running(database, single)
    assert await lost(api, queue_is_empty=False) == [early]


async def test_a_message_is_not_lost_while_a_worker_starts_rows_of_its_queue(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    first, second = await upload_two(api, cat)
    for id in (first, second):
        await age(database, id, 20)
    await start_running(database, first)
    assert await lost(api, bulk=True, queue_is_empty=True) == []
    await database.execute("UPDATE predictions SET started_at = now() - interval '6 s' WHERE id = $1", first)
    assert await lost(api, bulk=True, queue_is_empty=True) == [second]
    assert await lost(api, bulk=False, queue_is_empty=True) == []


async def test_a_row_that_runs_for_a_minute_has_lost_its_worker(
    api: Api, cat: bytes, database: asyncpg.Connection
) -> None:
    id = (await upload(api, cat))["id"]
    await start_running(database, id)
    assert await lost(api, queue_is_empty=True) == []
    await age(database, id, 61)
    assert await lost(api, queue_is_empty=False) == [id]


async def test_thousands_of_lost_rows_are_published_again_in_groups_to_their_queue(
    api: Api, database: asyncpg.Connection
) -> None:
    broker = api.services.broker
    before = [(await broker.inspect(queue)).depth for queue in (INFERENCE, BULK)]
    count = 2 * LOST_PAGE + 100
    await database.execute(
        """INSERT INTO predictions (id, filename, "timestamp", pixels, bulk, status, started_at)
           SELECT gen_random_uuid(), 'x', now() - interval '90 s', decode(repeat('00', 3072), 'hex'), true,
                  'running', now() - interval '70 s' FROM generate_series(1, $1)""",
        count,
    )

    async def relayed() -> bool:  # by this call or by the tick of the relay
        await api.services.relay.relay_lost()
        return api.services.relay.republished == count

    await eventually(relayed)
    after = [(await broker.inspect(queue)).depth for queue in (INFERENCE, BULK)]
    assert after == [before[0], before[1] + -(-count // 64)]


async def test_the_number_of_unfinished_predictions_is_exact_when_small_and_estimated_when_large(
    api: Api, database: asyncpg.Connection
) -> None:
    """The ids are consecutive, so exactly an eighth ends in a byte below 32: the estimate is exact."""
    insert = """INSERT INTO predictions (id, filename, "timestamp", pixels)
        SELECT lpad(to_hex(n), 32, '0')::uuid, 'x', now(), decode(repeat('00', 3072), 'hex')
        FROM generate_series($1::integer, $2 - 1) AS n"""
    count = api.services.predictions.count_unfinished
    await database.execute(insert, 0, 4999)
    assert await count() == 4999
    await database.execute(insert, 4999, 256 * 30)
    assert await count() == 256 * 30
    await database.execute("UPDATE predictions SET status = 'canceled', completed_at = now()")
    assert await count() == 0


async def test_a_queued_training_with_an_empty_queue_has_lost_its_message(
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


async def test_a_training_with_a_silent_worker_has_lost_its_message(
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
    # If the queue is not empty, the training counts as lost for one minute only.
    assert lost == [(False, False), (True, True), (True, False)]
    await database.execute(SUCCEED, id)
    assert await api.services.trainings.find_lost(queue_is_empty=True) == []


async def test_a_training_that_its_worker_handed_back_counts_as_lost_for_a_minute_even_if_others_wait(
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
    [
        ("inference", "predictions", "inference.classify"),
        ("inference.bulk", "predictions", "inference.classify"),
        ("training", "trainings", "training.train"),
    ],
)
async def test_the_relay_publishes_lost_messages_once_at_its_ticks(
    queue: str, table: str, task: str, api: Api, cat: bytes, database: asyncpg.Connection, servers: Config
) -> None:
    relay = api.services.relay

    async def published() -> bool:
        return (await api.services.broker.inspect(queue)).depth > 0

    reader = await aio_pika.connect(servers.broker_url("training" if queue == TRAINING else "worker"))
    async with reader:
        messages = await (await reader.channel()).declare_queue(queue, passive=True)
        await messages.purge()
        if queue == BULK:
            ids = await upload_two(api, cat)
        else:
            ids = [(await (start(api) if queue == TRAINING else upload(api, cat)))["id"]]
        await eventually(published)
        await messages.purge()
        await database.execute(f"""UPDATE {table} SET "timestamp" = now() - interval '6 seconds'""")
        await eventually(published)
        message = await messages.get(timeout=5)
        assert message is not None
        await message.ack()
        assert (message.headers["task"], message.headers["id"]) == (task, ids[0])
        assert json.loads(message.body)[0] == ([ids] if table == "predictions" else ids)
        assert (await relay.relay_lost(), relay.republished) == ([], len(ids))


class DisturbedBroker:
    """Turns a cancellation into an error, as a client library may do when its channel is closed."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def inspect(self, _queue: str) -> QueueState:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise Unavailable("the channel is closed") from error
        raise AssertionError


async def test_the_relay_stops_even_if_its_cancellation_becomes_an_error(
    api: Api, cat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "TICK_SECONDS", 0.01)
    await api.upload(cat)
    broker, services = DisturbedBroker(), api.services
    relay = Relay(services.predictions, services.trainings, broker)  # pyright: ignore[reportArgumentType]
    relay.start()
    async with asyncio.timeout(10):
        await broker.asked.wait()
        await relay.stop()


class SlowBroker:
    """Confirms messages only after `confirms` is set."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.confirms = asyncio.Event()
        self.published: list[list[TaskMessage]] = []

    async def publish(self, messages: Sequence[TaskMessage]) -> None:
        self.asked.set()
        await self.confirms.wait()
        self.published.append(list(messages))


async def test_rows_that_come_while_the_broker_confirms_share_the_next_messages(api: Api) -> None:
    broker = SlowBroker()
    services = api.services
    relay = Relay(services.predictions, services.trainings, broker)  # pyright: ignore[reportArgumentType]
    relay.start()
    first, *single = sorted(uuid4() for _ in range(66))
    several, training = sorted(uuid4() for _ in range(5)), uuid4()
    relay.publish_soon(INFERENCE, [(first, "one")])
    await broker.asked.wait()
    for id in reversed(single):
        relay.publish_soon(INFERENCE, [(id, "two")])
    relay.publish_soon(TRAINING, [(training, None)])
    relay.publish_soon(BULK, [(id, "three") for id in several])
    assert relay.waiting == 71
    stopping = asyncio.create_task(relay.stop())  # publishes the waiting rows
    broker.confirms.set()
    await stopping
    published = [[(m.queue, m.argument) for m in messages] for messages in broker.published]
    assert published == [
        [(INFERENCE, [str(first)])],
        [
            (INFERENCE, [str(id) for id in single[:64]]),
            (INFERENCE, [str(id) for id in single[64:]]),
            (BULK, [str(id) for id in several]),
            (TRAINING, str(training)),
        ],
    ]
