"""The queue of each reader of changes, and `Subscriptions`, which finds the readers of a change."""

import asyncio
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from backend.prediction_rows import to_prediction
from backend.schemas import TERMINAL
from backend.schemas.predictions import Prediction
from backend.sse import EventId, encode

MAX_BACKLOG = 2000  # if more changes wait for a slow reader, its stream ends, and the client reconnects


@dataclass(frozen=True)
class Change:
    """One event. `prediction` is the prediction after this event, or None if it was removed."""

    number: int
    id: UUID
    prediction: Prediction | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> "Change":
        """Build the change from a row of `event_log.READ_AFTER`."""
        return cls(row.number, row.prediction_id, to_prediction(row) if row.id is not None else None)

    @property
    def ended(self) -> bool:
        return self.prediction is None or self.prediction.status in TERMINAL

    @cached_property
    def event(self) -> bytes:
        """The event in the stream of all predictions, encoded once for all readers."""
        return self.encode(EventId(self.number))

    def encode(self, id: EventId) -> bytes:
        if self.prediction is None:
            return encode("deleted", id, f'{{"id":"{self.id}"}}')
        return encode("prediction", id, self.prediction.encoded)


class Subscription:
    """The queue of one reader. The queue ends if the backend stops, the reader is too slow or events may be
    missing."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, change: Change) -> None:
        """Add a change. If the reader waits, it gets the change after `wake`, else with its next read."""
        if self._closed:
            return
        if len(self._changes) >= MAX_BACKLOG:
            self.close()
        else:
            self._changes.append(change)

    def wake(self) -> None:
        """Let the reader read its changes.

        If none waits, a stream of predictions sends a keep-alive. A training's stream reads the training.
        """
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def read(self) -> list[Change] | None:
        """Wait for changes; returns all since the last call, or None at the end.

        The list is empty if `wake` was called while no change waited to be read.
        """
        if not self._changes and not self._closed:
            await self._wake.wait()
        self._wake.clear()
        changes, self._changes = self._changes, []
        return None if self._closed and not changes else changes


class Subscriptions:
    """The readers of single predictions or trainings, by id, and the readers of all predictions."""

    def __init__(self) -> None:
        self.of_all: set[Subscription] = set()
        self._by_id: defaultdict[UUID, set[Subscription]] = defaultdict(set)
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self.of_all or self._by_id)

    def __len__(self) -> int:
        return len(self.of_all) + sum(map(len, self._by_id.values()))

    def __iter__(self) -> Generator[Subscription]:
        yield from set[Subscription]().union(self.of_all, *self._by_id.values())

    def of(self, id: UUID) -> Iterable[Subscription]:
        """The readers that subscribed to this id."""
        return self._by_id.get(id, ())

    def end(self) -> None:
        """End the subscriptions of all readers."""
        for subscription in self:
            subscription.close()

    def close(self) -> None:
        """End all subscriptions, also later ones."""
        self._closed = True
        self.end()

    @contextmanager
    def add(self, ids: Sequence[UUID] | None = None) -> Generator[Subscription]:
        """Add a reader of some ids, or of all predictions, for the time of the block.

        A reader that is added before it reads the current state misses no change after that state.
        """
        subscription = Subscription()
        if self._closed:
            subscription.close()
        if ids is None:
            self.of_all.add(subscription)
        for id in ids or ():
            self._by_id[id].add(subscription)
        try:
            yield subscription
        finally:
            self.of_all.discard(subscription)
            for id in ids or ():
                self._by_id[id].discard(subscription)
                if not self._by_id[id]:
                    del self._by_id[id]
