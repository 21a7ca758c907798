"""Each service may do in the broker only what it needs. The user `monitor` may change nothing."""

from collections.abc import Awaitable, Callable

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelClosed

from scripts.local.config import Config

Deed = Callable[[AbstractChannel], Awaitable[None]]


async def publish_a_task(channel: AbstractChannel) -> None:
    exchange = await channel.get_exchange("inference", ensure=False)
    await exchange.publish(aio_pika.Message(b"x"), "inference")


async def publish_an_event(channel: AbstractChannel) -> None:
    exchange = await channel.get_exchange("celeryev", ensure=False)
    await exchange.publish(aio_pika.Message(b"x"), "worker.offline")


async def take_a_task(channel: AbstractChannel) -> None:
    queue = await channel.get_queue("inference", ensure=False)
    await queue.get(fail=False)


async def take_a_bulk_task(channel: AbstractChannel) -> None:
    queue = await channel.get_queue("inference.bulk", ensure=False)
    await queue.get(fail=False)


async def remove_the_events(channel: AbstractChannel) -> None:
    await channel.exchange_delete("celeryev")


async def listen_to_events(channel: AbstractChannel) -> None:
    queue = await channel.declare_queue("celeryev.mine", exclusive=True, auto_delete=True)
    await queue.bind("celeryev", "#")


async def attempt(config: Config, user: str, deed: Deed) -> None:
    password = config.secrets["monitor" if user == "monitor" else f"broker_{user}"]
    address = f"amqp://{user}:{password}@127.0.0.1:{config.ports['amqp']}/cifar"
    async with await aio_pika.connect(address) as connection:
        channel = await connection.channel(on_return_raises=True)
        await deed(channel)


@pytest.mark.parametrize(
    ("user", "deed"),
    [
        *(("monitor", deed) for deed in (publish_a_task, publish_an_event, take_a_task, take_a_bulk_task)),
        *(("monitor", deed) for deed in (remove_the_events, listen_to_events)),
        *(("flower", deed) for deed in (publish_a_task, publish_an_event, take_a_task, take_a_bulk_task)),
        ("backend", publish_an_event),
        *((user, publish_a_task) for user in ("worker", "training")),
        ("training", take_a_task),
    ],
)
async def test_a_service_may_do_only_what_it_needs(servers: Config, user: str, deed: Deed) -> None:
    with pytest.raises(ChannelClosed, match="ACCESS_REFUSED"):
        await attempt(servers, user, deed)


@pytest.mark.parametrize("deed", [take_a_task, take_a_bulk_task])
async def test_a_worker_takes_tasks_from_both_queues(deed: Deed, servers: Config) -> None:
    await attempt(servers, "worker", deed)


async def test_flower_receives_events(servers: Config) -> None:
    await attempt(servers, "flower", listen_to_events)
