"""Stands in for the backend: stores predictions and publishes their messages. No row is marked as bulk."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

import aio_pika
import asyncpg

BLACK_IMAGE = bytes(3072)
INTERACTIVE, BULK = "inference", "inference.bulk"
BATCH = 64  # images


class Backend:
    def __init__(self, database: asyncpg.Connection, channel: aio_pika.abc.AbstractChannel) -> None:
        self.database = database
        self.channel = channel

    async def store(self, *images: bytes) -> list[str]:
        ids = [str(uuid.uuid4()) for _ in images]
        await self.database.executemany(
            """INSERT INTO predictions (id, filename, "timestamp", pixels)
               VALUES ($1, 'x.png', clock_timestamp(), $2)""",
            list(zip(ids, images, strict=True)),
        )
        return ids

    async def publish(self, ids: Sequence[str], queue: str = INTERACTIVE) -> None:
        """Publish one message with all ids."""
        exchange = await self.channel.get_exchange("inference", ensure=False)
        headers: dict[str, Any] = {
            "task": "inference.classify",
            "id": ids[0],
            "request_ids": [None] * len(ids),
        }
        body = json.dumps([[ids], {}, {}]).encode()
        message = aio_pika.Message(
            body, headers=headers, content_type="application/json", content_encoding="utf-8", delivery_mode=2
        )
        await exchange.publish(message, queue)

    async def upload(self, *images: bytes, queue: str = INTERACTIVE) -> list[str]:
        ids = await self.store(*images)
        await self.publish(ids, queue)
        return ids

    async def waiting_messages(self) -> int:
        """The number of messages that no worker holds."""
        queues = [await self.channel.declare_queue(name, passive=True) for name in (INTERACTIVE, BULK)]
        return sum(queue.declaration_result.message_count or 0 for queue in queues)

    async def count(self, condition: str) -> int:
        return int(await self.database.fetchval(f"SELECT count(*) FROM predictions WHERE {condition}") or 0)

    async def has_an_outcome(self) -> bool:
        return await self.count("completed_at IS NOT NULL") > 0

    async def all_have_ended(self) -> bool:
        return await self.count("completed_at IS NULL") == 0

    async def rows(self) -> dict[str, asyncpg.Record]:
        rows = await self.database.fetch("SELECT * FROM predictions")
        return {str(row["id"]): row for row in rows}
