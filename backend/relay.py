"""The relay publishes task messages for stored rows, and publishes lost messages again.

Messages are published right after the commit of their rows, and do not delay the request. If publishing fails
(the broker is unavailable, or the backend is killed after the commit), the relay finds the unfinished rows
in the database. A message that several backends publish does no harm: workers process only unfinished rows.

Rows of one INSERT are passed to `publish_soon` in one turn of the event loop. Rows that arrive while the
relay waits for the broker's confirm are collected. So predictions that arrive together share messages, and
a lone prediction does not wait (docs/decisions/0022).
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from uuid import UUID

from backend.broker import Broker
from backend.errors import DatabaseAway, Unavailable
from backend.messages import BULK, EXCHANGE_OF, TRAINING, RowToPublish, TaskMessage, build_messages
from backend.predictions import Predictions
from backend.trainings import Trainings

logger = logging.getLogger(__name__)

TICK_SECONDS = 2.0
REPEAT_SECONDS = 10.0  # the shortest time between two repeats of a message by one backend


class Relay:
    """Publishes task messages: new ones at once, and every two seconds those that appear to be lost."""

    def __init__(self, predictions: Predictions, trainings: Trainings, broker: Broker) -> None:
        self._predictions = predictions
        self._trainings = trainings
        self._broker = broker
        self._waiting: dict[str, list[RowToPublish]] = {queue: [] for queue in EXCHANGE_OF}
        self._wake = asyncio.Event()
        self._republished: dict[UUID, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.unfinished: int = 0
        """The number of unfinished predictions at the last tick."""

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._publish_waiting())]

    async def stop(self) -> None:
        """Publish the messages that wait. If that fails, the relay finds their rows after the next start."""
        self._stopping = True
        self._wake.set()
        self._tasks[0].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """The number of rows that wait for their first publication."""
        return sum(map(len, self._waiting.values()))

    @property
    def republished(self) -> int:
        """The number of rows whose message the relay tried to publish again in the last ten seconds."""
        now = time.monotonic()
        return sum(now - at < REPEAT_SECONDS for at in self._republished.values())

    def publish_soon(self, queue: str, rows: Iterable[RowToPublish]) -> None:
        """Publish messages for committed rows, without delaying their request."""
        self._waiting[queue].extend(rows)
        self._wake.set()

    async def relay_lost(self) -> list[UUID]:
        """Publish lost messages again; returns the ids of their rows."""
        relayed: list[UUID] = []
        for queue in EXCHANGE_OF:
            is_empty = (await self._broker.inspect(queue)).depth == 0
            if queue == TRAINING:
                lost = await self._trainings.find_lost(queue_is_empty=is_empty)
            else:
                lost = await self._predictions.find_lost(bulk=queue == BULK, queue_is_empty=is_empty)
            relayed += await self._relay(queue, lost)
        return relayed

    async def _relay(self, queue: str, rows: Sequence[UUID]) -> list[UUID]:
        now = time.monotonic()
        self._republished = {id: at for id, at in self._republished.items() if now - at < REPEAT_SECONDS}
        lost = [id for id in rows if id not in self._republished]
        if lost:
            logger.warning(
                "the messages of %d rows appear to be lost in %s, publishing them again", len(lost), queue
            )
            self._republished |= dict.fromkeys(lost, now)
            await self._publish(build_messages(queue, [(id, None) for id in lost]))
        return lost

    async def _publish(self, messages: Sequence[TaskMessage]) -> None:
        """Publish messages. After a failure the relay finds their rows."""
        try:
            await self._broker.publish(messages)
        except Unavailable as error:
            logger.warning("%s", error)
        except Exception:
            logger.exception("publishing %d messages failed; the relay will find their rows", len(messages))

    async def _publish_waiting(self) -> None:
        while self.waiting or not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            messages: list[TaskMessage] = []
            for queue, rows in self._waiting.items():
                messages += build_messages(queue, rows)
                rows.clear()
            await self._publish(messages)

    async def _watch(self) -> None:
        while not self._stopping:  # a library may turn the cancellation in `stop` into an error of its own
            try:
                self.unfinished = await self._predictions.count_unfinished()
                if self.unfinished or await self._trainings.count_unfinished():
                    await self.relay_lost()
            except (DatabaseAway, Unavailable) as error:
                logger.warning("cannot look for lost messages: %s", error)
            except Exception:
                logger.exception("looking for lost messages failed, trying again")
            await asyncio.sleep(TICK_SECONDS)
