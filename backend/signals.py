"""Wake-ups by id, for streams that read for themselves from where they are.

A training has few readers and changes seldom, so each of its streams keeps its own place and needs to be
told only that reading may be worth it: any number of changes are one wake-up, and none is lost.
"""

import asyncio
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID

TICK_SECONDS = 5.0  # then a stream reads all the same, in case the telling was missed


class Signal:
    """One stream's wake-up."""

    def __init__(self) -> None:
        self._wake = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def wait(self) -> bool:
        """Until something may have changed; False when the service stops."""
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        return not self._closed


class Signals:
    """Every open stream's wake-up, by the id that it follows."""

    def __init__(self) -> None:
        self._signals: defaultdict[UUID, set[Signal]] = defaultdict(set)
        self._closed = False

    @property
    def count(self) -> int:
        return sum(len(signals) for signals in self._signals.values())

    def wake(self, id: UUID) -> None:
        for signal in self._signals.get(id, ()):
            signal.wake()

    def wake_all(self) -> None:
        for id in self._signals:
            self.wake(id)

    def close(self) -> None:
        """End every stream, and each one opened from now on."""
        self._closed = True
        for signal in set[Signal]().union(*self._signals.values()):
            signal.close()

    @contextmanager
    def follow(self, id: UUID) -> Generator[Signal]:
        """Subscribe first, read second: what changes in between is signalled."""
        signal = Signal()
        self._signals[id].add(signal)
        if self._closed:
            signal.close()
        try:
            yield signal
        finally:
            self._signals[id].discard(signal)
            if not self._signals[id]:
                del self._signals[id]
