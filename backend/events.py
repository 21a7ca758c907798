"""Live status: hands what happens to predictions to whoever waits for it.

schema.sql records every change as an event. Events are numbered in the order of the commits: whoever sees a
number sees all lower ones. One connection LISTENs. A notification only says "read again": one query then
reads all events after the last one that was read, with their rows. A notification that was missed costs a few
seconds, never an event.

No event is lost, and none is told twice:

- A reader is registered first. Then its own query reads the current state and the number of the latest event,
  both in one snapshot. Events up to that number are in this state already, and are not told again.
- The central read looks up who is registered after its query has returned. An event that is not in a reader's
  own state was committed after that state was read, so after the reader was registered. The query that
  found the event returned later still. So the reader is in the list.
- The central read passes over events without reading them only if nobody is registered after its query has
  returned. A reader that is registered later reads a later state.
- When events may be missing (too many were removed, or the database is another one), every stream is ended.
  Readers come back with their Last-Event-ID, and are told to reload where that cannot be resumed.
"""

import asyncio
import logging
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from uuid import UUID

from backend.errors import DatabaseAway
from backend.event_log import EventLog, Reading
from backend.listener import RECONNECT_SECONDS, Listener
from backend.schemas import TERMINAL
from backend.schemas.predictions import Prediction
from backend.signals import Signals
from backend.sse import KEEP_ALIVE_SECONDS
from backend.subscriptions import Change, Subscription, Subscriptions

logger = logging.getLogger(__name__)

# Channels of schema.sql.
PROGRESS, OUTCOMES, TRAININGS = "progress", "outcomes", "trainings"
TICK_SECONDS = 5.0
PAGE = 1000  # predictions that are read together
KEPT_EVENTS = 20_000  # in the database


class Changes:
    """Watches the tables: hands each change of a prediction to its readers, wakes those of a training."""

    def __init__(self, log: EventLog, database_url: str) -> None:
        self._log = log
        handlers = {PROGRESS: self._on_progress, OUTCOMES: self._on_outcome, TRAININGS: self._on_training}
        self._listener = Listener(database_url, handlers)
        self.trainings = Signals()
        self._followed = Subscriptions()
        self._awaited = Subscriptions()
        self._wake = asyncio.Event()
        self._read_up_to: int | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    def start(self) -> None:
        self._wake.set()
        work = (self._listener.run(self._on_connect), self._read(), self._keep_up())
        self._tasks = [asyncio.create_task(part) for part in work]

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closed = True
        self._end_all()
        self.trainings.close()

    async def stop(self) -> None:
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def listening(self) -> bool:
        """Events are told at once; else up to a tick late."""
        return self._listener.listening and self._read_up_to is not None

    @property
    def streams(self) -> int:
        """Readers that follow predictions or a training."""
        return len(self._followed) + self.trainings.count

    def follow(self, id: UUID) -> AbstractContextManager[Subscription]:
        """Each change of one prediction. Subscribe first, read the current state second."""
        return self._subscribe(self._followed, [id])

    def follow_all(self) -> AbstractContextManager[Subscription]:
        """Each change of every prediction."""
        return self._subscribe(self._followed, None)

    def await_outcomes(self, ids: Sequence[UUID]) -> AbstractContextManager[Subscription]:
        """How some predictions end, and no earlier status."""
        return self._subscribe(self._awaited, ids)

    @contextmanager
    def _subscribe(self, readers: Subscriptions, ids: Sequence[UUID] | None) -> Generator[Subscription]:
        with readers.add(ids) as subscription:
            if self._closed:
                subscription.close()
            yield subscription

    def _on_connect(self) -> None:
        self._wake.set()  # something may have happened before we listened
        self.trainings.wake_all()

    def _on_progress(self, _payload: str) -> None:
        if self._followed:
            self._wake.set()

    def _on_outcome(self, _payload: str) -> None:
        if self._followed or self._awaited:
            self._wake.set()

    def _on_training(self, payload: str) -> None:
        self.trainings.wake(UUID(payload))

    async def _read(self) -> None:
        """Read events when notified, and at a slow tick in case a notification was missed."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._read_once()
            except DatabaseAway as error:
                logger.warning("cannot read events, trying again: %s", error)
                await self._read_again_soon()
            except Exception:
                logger.exception("reading events failed, trying again")
                await self._read_again_soon()

    async def _read_again_soon(self) -> None:
        await asyncio.sleep(RECONNECT_SECONDS)
        self._wake.set()

    async def _read_once(self) -> None:
        """Read a page of events and hand it out. The module's docstring says why none is lost."""
        wanted = bool(self._followed or self._awaited)
        found = await self._log.read_after(self._read_up_to or 0, PAGE if wanted else 0)
        if not found.kept or not all(row.prediction_id for row in found.rows):
            self._end_all()
        elif wanted:
            self._hand_out(found)
            if len(found.rows) == PAGE:  # there may be more
                self._read_up_to = found.rows[-1].number
                self._wake.set()
                return
        elif self._followed or self._awaited:  # registered meanwhile
            self._wake.set()
            return
        self._read_up_to = found.latest

    def _hand_out(self, found: Reading) -> None:
        """To each reader what it waits for. A row that nobody waits for is not parsed."""
        for row in found.rows:
            readers = [*self._followed.of_all, *self._followed.of(row.prediction_id)]
            if row.id is None or row.completed_at is not None:  # removed or ended
                readers += self._awaited.of(row.prediction_id)
            if readers:
                change = Change.from_row(row)
                for subscription in readers:
                    subscription.put(change)

    def _end_all(self) -> None:
        for subscription in (*self._followed, *self._awaited):
            subscription.close()

    async def _keep_up(self) -> None:
        """Keep the streams alive, and the table of events small."""
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            for subscription in self._followed:
                subscription.keep_alive()
            try:
                await self._log.trim(KEPT_EVENTS)
            except DatabaseAway as error:
                logger.warning("cannot remove old events, trying again: %s", error)
            except Exception:
                logger.exception("removing old events failed, trying again")


async def wait_for(
    predictions: list[Prediction], subscription: Subscription, seconds: float
) -> list[Prediction]:
    """The same predictions, once all have ended or are removed, or the time is up."""
    latest = {prediction.id: prediction for prediction in predictions}
    unfinished = {id for id, prediction in latest.items() if prediction.status not in TERMINAL}
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while unfinished and (changes := await subscription.read()) is not None:
                for change in changes:
                    latest[change.id] = change.prediction or latest[change.id]
                    unfinished.discard(change.id)
    return [latest[prediction.id] for prediction in predictions]
