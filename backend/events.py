"""Live status: what PostgreSQL says has changed, to whoever waits for it.

One connection LISTENs. A notification only says "read again": one query then reads everything that
changed since the snapshot of the read before, so a notification that was missed costs a few seconds
and never an event. The id of an event is such a snapshot, which is why a stream can resume without
a gap: a snapshot tells exactly which transactions a reader has seen, commit order and all.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from backend.database import Database
from backend.errors import DatabaseAway
from backend.predictions import Predictions
from backend.schemas import TERMINAL
from backend.schemas.predictions import Prediction
from backend.signals import Signals

logger = logging.getLogger(__name__)

# Channels of schema.sql.
PROGRESS, OUTCOMES, DELETIONS, TRAININGS = "progress", "outcomes", "deletions", "trainings"
TICK_SECONDS = 5.0
RECONNECT_SECONDS = 1.0
CONNECT_TIMEOUT_SECONDS = 5
MAX_BACKLOG = 2000  # events that a slow reader may be behind; then it must reconnect and resume


@dataclass(frozen=True)
class Change:
    """A prediction as it now is, and the snapshot to resume from after it."""

    prediction: Prediction
    snapshot: str


class Subscription:
    """A reader's queue of changes. Iteration ends when the service stops, the reader is too slow or the one
    prediction that it follows is removed."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Change | None] = asyncio.Queue()

    def put(self, change: Change) -> None:
        if self._queue.qsize() < MAX_BACKLOG:
            self._queue.put_nowait(change)
        else:
            self.close()

    def close(self) -> None:
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Change]:
        while (change := await self._queue.get()) is not None:
            yield change


Readers = defaultdict[UUID, set[Subscription]]
EVERY = UUID(int=0)  # stands for all predictions


class Changes:
    """Watches the tables: hands each change of a prediction to its subscribers, wakes those of a training."""

    def __init__(self, database: Database, predictions: Predictions, database_url: str) -> None:
        self._database = database
        self._predictions = predictions
        self._database_url = database_url
        self.trainings = Signals()
        self._followed: Readers = defaultdict(set)
        self._awaited: Readers = defaultdict(set)
        self._wake = asyncio.Event()
        self._deletions_missed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self.listening = False

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._read())]

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closed = True
        for subscription in set[Subscription]().union(*self._followed.values(), *self._awaited.values()):
            subscription.close()
        self.trainings.close()

    async def stop(self) -> None:
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def streams(self) -> int:
        """Readers that follow predictions or a training."""
        return sum(len(readers) for readers in self._followed.values()) + self.trainings.count

    def follow(self, id: UUID) -> AbstractContextManager[Subscription]:
        """Each new status of one prediction. Subscribe first, read the current status second."""
        return self._subscribe(self._followed, [id])

    def follow_all(self) -> AbstractContextManager[Subscription]:
        """Each new status of every prediction."""
        return self._subscribe(self._followed, [EVERY])

    def await_outcomes(self, ids: Sequence[UUID]) -> AbstractContextManager[Subscription]:
        """The outcome, and no earlier status, of some predictions."""
        return self._subscribe(self._awaited, ids)

    @contextmanager
    def _subscribe(self, readers: Readers, ids: Sequence[UUID]) -> Generator[Subscription]:
        subscription = Subscription()
        for id in ids:
            readers[id].add(subscription)
        if self._closed:
            subscription.close()
        try:
            yield subscription
        finally:
            for id in ids:
                readers[id].discard(subscription)
                if not readers[id]:
                    del readers[id]

    async def _listen(self) -> None:
        while True:
            try:
                connection = await asyncpg.connect(self._database_url, timeout=CONNECT_TIMEOUT_SECONDS)
                closed = asyncio.Event()
                connection.add_termination_listener(lambda _, closed=closed: closed.set())
                try:
                    await connection.add_listener(PROGRESS, self._on_notification)
                    await connection.add_listener(OUTCOMES, self._on_notification)
                    await connection.add_listener(DELETIONS, self._on_deletion)
                    await connection.add_listener(TRAININGS, self._on_training)
                    self.listening = True
                    self._deletions_missed = True
                    self._wake.set()  # something may have happened before we listened
                    self.trainings.wake_all()
                    await closed.wait()
                finally:
                    self.listening = False
                    connection.terminate()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                logger.warning("cannot listen for changes, trying again: %r", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    def _on_notification(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        if not self._followed and (channel == PROGRESS or not self._awaited):
            return
        ids = {UUID(id) for id in str(payload).split(",")} | {EVERY}
        if not ids.isdisjoint(self._followed) or (channel == OUTCOMES and not ids.isdisjoint(self._awaited)):
            self._wake.set()

    def _on_deletion(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self._end(map(UUID, str(payload).split(",")))

    def _end(self, removed: Iterable[UUID]) -> None:
        """End the streams of predictions that were removed. Who waits for several waits for the others."""
        for id in removed:
            for subscription in self._followed.get(id, ()):
                subscription.close()

    def _on_training(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self.trainings.wake(UUID(str(payload)))

    async def _read(self) -> None:
        """Read what changed when told to, and at a slow tick in case the telling was missed."""
        since: str | None = None
        while True:
            try:
                if since is None:
                    since = await self._database.snapshot()
                try:
                    async with asyncio.timeout(TICK_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                since = await self._read_once(since)
                if self._deletions_missed:
                    followed = self._followed.keys() - {EVERY}
                    self._end(followed - await self._predictions.find(list(followed)))
                    self._deletions_missed = False
            except DatabaseAway as error:
                logger.warning("cannot read changes, trying again: %s", error)
                await asyncio.sleep(RECONNECT_SECONDS)
                self._wake.set()
            except Exception:
                logger.exception("reading changes failed, trying again")
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _read_once(self, since: str) -> str:
        """Read what changed since a snapshot, hand it out, and return the new snapshot."""
        if EVERY in self._followed:
            changed, snapshot = await self._predictions.read_changed(since)
        elif self._followed or self._awaited:
            ids = list(self._followed), list(self._awaited)
            changed, snapshot = await self._predictions.read_changed_among(since, *ids)
        else:
            return await self._database.snapshot()
        for number, prediction in enumerate(changed, start=1):
            # Only the last event of this read may claim that everything in it was seen.
            seen = snapshot if number == len(changed) else since
            for subscription in self._followed.get(EVERY, ()):
                subscription.put(Change(prediction, seen))
            for readers in (self._followed, self._awaited):
                for subscription in readers.get(prediction.id, ()):
                    subscription.put(Change(prediction, snapshot))
        return snapshot


async def follow(first: Change, subscription: Subscription) -> AsyncIterator[Change]:
    """One prediction: its current status, then each new one, up to the terminal."""
    yield first
    latest = first.prediction
    if latest.status in TERMINAL:
        return
    async for change in subscription:
        if change.prediction == latest:
            continue  # read once as the current status and once as a change
        latest = change.prediction
        yield change
        if latest.status in TERMINAL:
            return


async def follow_all(first: list[Change], subscription: Subscription) -> AsyncIterator[Change]:
    """All predictions: what the reader missed or what is under way, then each change."""
    sent = {change.prediction.id: change.prediction for change in first}
    for change in first:
        yield change
    async for change in subscription:
        if sent.pop(change.prediction.id, None) != change.prediction:
            yield change


async def wait_for(
    predictions: list[Prediction], subscription: Subscription, seconds: float
) -> list[Prediction]:
    """The same predictions, once all are terminal or the time is up."""
    latest = {prediction.id: prediction for prediction in predictions}
    unfinished = {id for id, prediction in latest.items() if prediction.status not in TERMINAL}
    if not unfinished:
        return predictions
    try:
        async with asyncio.timeout(seconds):
            async for change in subscription:
                latest[change.prediction.id] = change.prediction
                if change.prediction.status in TERMINAL:
                    unfinished.discard(change.prediction.id)
                if not unfinished:
                    break
    except TimeoutError:
        pass
    return [latest[prediction.id] for prediction in predictions]
