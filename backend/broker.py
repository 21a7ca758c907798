"""The way to RabbitMQ: one robust connection, one channel that confirms."""

import asyncio
import logging
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection
from aio_pika.exceptions import AMQPError, ChannelClosed
from aiormq.exceptions import ChannelInvalidStateError

from backend.messages import CONTENT_ENCODING, CONTENT_TYPE, EXCHANGE, ROUTING_KEY, ClassifyMessage

logger = logging.getLogger(__name__)

QUEUE = "inference"
RECONNECT_SECONDS = 1
CONNECT_TIMEOUT_SECONDS = 5
DEADLINE_SECONDS = 2.0


class BrokerAway(Exception):
    """The broker did not confirm in time; the message may or may not have arrived."""


@dataclass(frozen=True)
class QueueState:
    depth: int
    consumers: int


class Broker:
    """Publishes messages. Never makes anyone wait longer than its deadline."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AbstractRobustConnection | None = None
        self._channel: AbstractRobustChannel | None = None
        self._connecting: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start connecting; returns at once, for the service works without a broker, too."""
        self._connecting = asyncio.create_task(self._connect())

    async def close(self) -> None:
        if self._connecting:
            self._connecting.cancel()
        if self._connection:
            await self._connection.close()

    async def publish(self, message: ClassifyMessage) -> None:
        """Publish and wait for the broker's confirm. Raises BrokerAway."""
        task_id = str(message.id)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                exchange = await self._open_channel().get_exchange(EXCHANGE, ensure=False)
                await exchange.publish(
                    aio_pika.Message(
                        message.body,
                        headers=message.headers,
                        content_type=CONTENT_TYPE,
                        content_encoding=CONTENT_ENCODING,
                        correlation_id=task_id,
                        message_id=task_id,
                        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    ),
                    ROUTING_KEY,
                    mandatory=True,
                )
        except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError) as error:
            raise BrokerAway(f"{message}: {error!r}") from error

    async def inspect(self) -> QueueState:
        """How many messages wait, and how many workers listen. Raises BrokerAway."""
        if self._connection is None:
            raise BrokerAway("not connected yet")
        try:
            async with asyncio.timeout(DEADLINE_SECONDS), self._connection.channel() as channel:
                queue = await channel.declare_queue(QUEUE, passive=True)
                counts = queue.declaration_result
                return QueueState(counts.message_count or 0, counts.consumer_count or 0)
        except (AMQPError, ChannelClosed, OSError, TimeoutError, RuntimeError) as error:
            raise BrokerAway(repr(error)) from error

    def _open_channel(self) -> AbstractRobustChannel:
        if self._channel is None:
            raise RuntimeError("not connected yet")
        return self._channel

    async def _connect(self) -> None:
        while True:
            try:
                connection = await aio_pika.connect_robust(
                    self._url,
                    reconnect_interval=RECONNECT_SECONDS,
                    timeout=CONNECT_TIMEOUT_SECONDS,
                    client_properties={"connection_name": "backend"},
                )
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            except (AMQPError, OSError, TimeoutError) as error:
                logger.warning("the broker is away, trying again: %r", error)
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                self._connection, self._channel = connection, channel  # pyright: ignore
                return
