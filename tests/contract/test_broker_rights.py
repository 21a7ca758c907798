"""Each service may do in the broker only what it needs. The user `monitor` may change nothing."""

from collections.abc import Awaitable, Callable

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelClosed

from scripts.local.config import Config

Action = Callable[[AbstractChannel], Awaitable[None]]


async def publish_an_inference_task(channel: AbstractChannel) -> None:
    exchange = await channel.get_exchange("inference", ensure=False)
    await exchange.publish(aio_pika.Message(b"x"), "inference")


async def publish_a_celery_event(channel: AbstractChannel) -> None:
    exchange = await channel.get_exchange("celeryev", ensure=False)
    await exchange.publish(aio_pika.Message(b"x"), "worker.offline")


async def take_an_inference_task(channel: AbstractChannel) -> None:
    queue = await channel.get_queue("inference", ensure=False)
    await queue.get(fail=False)


async def take_a_bulk_task(channel: AbstractChannel) -> None:
    queue = await channel.get_queue("inference.bulk", ensure=False)
    await queue.get(fail=False)


async def remove_the_exchange_of_celery_events(channel: AbstractChannel) -> None:
    await channel.exchange_delete("celeryev")


async def listen_to_celery_events(channel: AbstractChannel) -> None:
    queue = await channel.declare_queue("celeryev.mine", exclusive=True, auto_delete=True)
    await queue.bind("celeryev", "#")


REFUSED_TO_BACKEND = (publish_a_celery_event, take_an_inference_task, take_a_bulk_task)


async def perform(config: Config, user: str, action: Action) -> None:
    password = config.secrets["monitor" if user == "monitor" else f"broker_{user}"]
    address = f"amqp://{user}:{password}@127.0.0.1:{config.ports['amqp']}/cifar"
    async with await aio_pika.connect(address) as connection:
        channel = await connection.channel(on_return_raises=True)
        await action(channel)


@pytest.mark.parametrize(
    ("user", "action"),
    [
        *(
            (user, action)
            for user in ("monitor", "flower")
            for action in (publish_an_inference_task, *REFUSED_TO_BACKEND)
        ),
        *(("monitor", action) for action in (remove_the_exchange_of_celery_events, listen_to_celery_events)),
        *(("backend", action) for action in REFUSED_TO_BACKEND),
        *((user, publish_an_inference_task) for user in ("worker", "training")),
        ("training", take_an_inference_task),
    ],
)
async def test_an_action_that_a_user_does_not_need_is_refused(
    servers: Config, user: str, action: Action
) -> None:
    with pytest.raises(ChannelClosed, match="ACCESS_REFUSED"):
        await perform(servers, user, action)


@pytest.mark.parametrize("action", [take_an_inference_task, take_a_bulk_task])
async def test_the_inference_worker_may_take_tasks_from_both_queues(action: Action, servers: Config) -> None:
    await perform(servers, "worker", action)


async def test_flower_may_listen_to_celery_events(servers: Config) -> None:
    await perform(servers, "flower", listen_to_celery_events)
