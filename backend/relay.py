"""From stored rows to published messages, now or as soon as the broker lets it.

A row is its own outbox. Uploads and trainings are published right after their commit, off the request's path;
what that misses (a broker away, a backend killed between commit and publish) the relay finds by
looking at the rows. Publishing twice is harmless, for a claim takes only unfinished rows, so backends
need not agree on who relays.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from backend.broker import Broker, BrokerAway
from backend.errors import DatabaseAway
from backend.messages import INFERENCE, TRAINING, TaskMessage, classify, train
from backend.predictions import Predictions
from backend.trainings import Trainings

logger = logging.getLogger(__name__)

TICK_SECONDS = 2.0
PATIENCE_SECONDS = 10.0  # a message published again gets this long before it counts as lost again


class Relay:
    def __init__(self, predictions: Predictions, trainings: Trainings, broker: Broker) -> None:
        self._predictions = predictions
        self._trainings = trainings
        self._broker = broker
        self._waiting: list[TaskMessage] = []
        self._wake = asyncio.Event()
        self._relayed: dict[UUID, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.unfinished: int = 0
        """Predictions that wait or run, as of the last tick."""

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._publish_waiting())]

    async def stop(self) -> None:
        """Publish what waits, within the broker's deadline; the rest is found after the restart."""
        self._stopping = True
        self._wake.set()
        self._tasks[0].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """Messages that the broker has not been asked to take yet."""
        return len(self._waiting)

    @property
    def relayed(self) -> int:
        """Messages that were published again and still have time to be claimed."""
        now = time.monotonic()
        return sum(now - at < PATIENCE_SECONDS for at in self._relayed.values())

    def publish_soon(self, messages: Iterable[TaskMessage]) -> None:
        """Publish messages of committed rows without making their request wait."""
        self._waiting.extend(messages)
        self._wake.set()

    async def publish(self, messages: Sequence[TaskMessage]) -> None:
        """Publish messages together; failures are left for the next look at the rows."""
        if not messages:
            return
        try:
            await self._broker.publish(messages)
        except BrokerAway as error:
            logger.warning("%s", error)
        else:
            await self._broker.announce(messages)

    async def relay_lost(self) -> list[UUID]:
        """Publish again the predictions that have lost their message; returns those ids."""
        queue = await self._broker.inspect(INFERENCE)
        lost = await self._predictions.find_lost(queue_is_empty=queue.depth == 0)
        return await self._relay(lost, classify)

    async def relay_lost_trainings(self) -> list[UUID]:
        """The same of trainings."""
        queue = await self._broker.inspect(TRAINING)
        lost = await self._trainings.find_lost(queue_is_empty=queue.depth == 0)
        return await self._relay(lost, train)

    async def _relay(self, rows: Sequence[UUID], ask: Callable[[UUID], TaskMessage]) -> list[UUID]:
        now = time.monotonic()
        self._relayed = {id: at for id, at in self._relayed.items() if now - at < PATIENCE_SECONDS}
        messages = [ask(id) for id in rows if id not in self._relayed]
        if messages:
            logger.warning("%d rows have lost their %s; publishing it again", len(messages), messages[0].task)
            self._relayed |= dict.fromkeys((message.id for message in messages), now)
            await self.publish(messages)
        return [message.id for message in messages]

    async def _publish_waiting(self) -> None:
        while self._waiting or not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            messages, self._waiting = self._waiting, []
            try:
                await self.publish(messages)
            except Exception:
                logger.exception("publishing %d messages failed; the rows will tell", len(messages))

    async def _watch(self) -> None:
        while True:
            try:
                self.unfinished = await self._predictions.count_unfinished()
                if self.unfinished:
                    await self.relay_lost()
                if await self._trainings.count_unfinished():
                    await self.relay_lost_trainings()
            except (BrokerAway, DatabaseAway) as error:
                logger.warning("cannot look for lost messages: %s", error)
            except Exception:
                logger.exception("looking for lost messages failed, trying again")
            await asyncio.sleep(TICK_SECONDS)
