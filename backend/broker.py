"""RabbitMQ: one robust connection, with a channel to publish messages and one to receive Celery events."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage, AbstractRobustChannel
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError, ChannelClosed
from aio_pika.robust_connection import RobustConnection
from aiormq.exceptions import ChannelInvalidStateError

from backend.errors import RETRY_SECONDS, Unavailable
from backend.messages import CONTENT_ENCODING, CONTENT_TYPE, EXCHANGE_OF, TaskMessage

logger = logging.getLogger(__name__)

EVENTS_EXCHANGE = "celeryev"
CONNECT_TIMEOUT_SECONDS = 5
DEADLINE_SECONDS = 2.0
PUBLISHED_TOGETHER = 100  # messages that share one deadline


@dataclass(frozen=True)
class QueueState:
    depth: int
    consumers: int


class Broker:
    """Publishes messages, and receives the events of Celery workers.

    `inspect` waits at most two seconds, and `publish` at most two seconds for each 100 messages. `receive` is
    called with each event of a worker.
    """

    def __init__(self, url: str, receive: Callable[[Mapping[str, Any]], None]) -> None:
        address = make_url(url, reconnect_interval=RETRY_SECONDS, fail_fast=0, name="backend")
        self._connection = RobustConnection(address)
        self._channel: AbstractRobustChannel | None = None
        self._events: AbstractRobustChannel | None = None
        self._receive = receive
        self._connecting: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start to connect and return at once: the backend also works without a broker."""
        self._connecting = asyncio.create_task(self._connect())

    async def close(self) -> None:
        if self._connecting:
            self._connecting.cancel()
            await self._connection.close()

    @property
    def connected(self) -> bool:
        return self._channel is not None and self._connection.connected.is_set()

    async def publish(self, messages: Sequence[TaskMessage]) -> None:
        """Publish messages, up to 100 together, and wait for the broker's confirms.

        Raises Unavailable if a message is not confirmed in time. Messages after these 100 are not sent. A
        message without a confirm may have arrived or not.
        """
        for start in range(0, len(messages), PUBLISHED_TOGETHER):
            await self._publish_together(messages[start : start + PUBLISHED_TOGETHER])

    async def inspect(self, queue: str) -> QueueState:
        """The waiting messages and the consumers of a queue, read on a new channel. Raises Unavailable."""
        if not self.connected:
            raise Unavailable("not connected")
        try:
            async with asyncio.timeout(DEADLINE_SECONDS), self._connection.channel() as channel:
                declared = await channel.declare_queue(queue, passive=True)
                counts = declared.declaration_result
                return QueueState(counts.message_count or 0, counts.consumer_count or 0)
        except (AMQPError, ChannelClosed, OSError, TimeoutError, RuntimeError) as error:
            raise Unavailable(repr(error)) from error

    async def _publish_together(self, messages: Sequence[TaskMessage]) -> None:
        if (channel := self._channel) is None:
            raise Unavailable(f"{len(messages)} messages unconfirmed: not connected")
        try:
            # One timer for all: a timer for each message took 4% of the backend's CPU time.
            async with asyncio.timeout(DEADLINE_SECONDS):
                names = {EXCHANGE_OF[message.queue] for message in messages}
                exchanges = {name: await channel.get_exchange(name, ensure=False) for name in names}
                confirms = (_send(exchanges[EXCHANGE_OF[message.queue]], message) for message in messages)
                ended = await asyncio.gather(*confirms, return_exceptions=True)
        except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError) as error:
            raise Unavailable(f"{len(messages)} messages unconfirmed: {error!r}") from error
        failures = [error for error in ended if isinstance(error, BaseException)]
        if failures:
            raise Unavailable(f"{len(failures)} of {len(messages)} messages unconfirmed: {failures[0]!r}")

    async def _connect(self) -> None:
        """Connect and open the channels. aio_pika restores them when it reconnects."""
        await self._connection.connect(timeout=CONNECT_TIMEOUT_SECONDS)
        while self._events is None:
            try:
                if self._channel is None:
                    self._channel = await self._connection.channel(on_return_raises=True)
                self._events = await self._listen()
            except Exception as error:
                logger.warning("cannot open channels to the broker, trying again: %r", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self) -> AbstractRobustChannel:
        channel = await self._connection.channel(publisher_confirms=False)
        try:
            queue = await channel.declare_queue(
                f"{EVENTS_EXCHANGE}.backend.{uuid4().hex}",
                exclusive=True,
                auto_delete=True,
                arguments={"x-max-length": 1000},
            )
            await queue.bind(EVENTS_EXCHANGE, "worker.#")
            await queue.consume(self._on_event, no_ack=True)
        except BaseException:
            await channel.close()
            raise
        return channel

    async def _on_event(self, message: AbstractIncomingMessage) -> None:
        try:
            event = json.loads(message.body)
        except ValueError:
            return  # not from one of our workers
        if isinstance(event, dict):
            self._receive(event)


async def _send(exchange: AbstractExchange, message: TaskMessage) -> None:
    await exchange.publish(
        aio_pika.Message(
            message.body,
            headers=message.headers,
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            correlation_id=message.id,
            message_id=message.id,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        ),
        message.queue,
        mandatory=True,
    )
