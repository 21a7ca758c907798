"""Chooses the predictions of the next batch.

There is no timer. When the device is free, a batch takes what waits, up to its maximum. While the device
is busy, only a full batch is formed ahead, because a smaller one may still grow.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from inference.outcomes import Outcome

BULK_TURN = 4
"""While bulk waits, a bulk message goes first after this many batches without a bulk prediction. Lower:
single uploads wait longer behind bulk. Higher: bulk takes longer while many single uploads arrive."""


@dataclass(eq=False)
class Group:
    """The predictions of one message, until each has its outcome."""

    request: Any
    """Celery's request. It acknowledges the message or returns it to the broker."""
    request_ids: Mapping[UUID, str | None]
    """The predictions, each with the id of its HTTP request."""
    is_bulk: bool = False
    is_redelivered: bool = False
    is_returned: bool = False
    """The message was returned to the broker: predictions that no batch has taken do not run."""
    started: float | None = None
    """When its first batch started, by the monotonic clock."""
    outcomes: dict[UUID, Outcome | None] = field(default_factory=dict[UUID, Outcome | None])
    """The outcomes so far. None: skipped, because the row had ended, was deleted or was claimed again."""

    def __post_init__(self) -> None:
        self.waiting = list(self.request_ids)
        """Predictions that no batch has taken."""


@dataclass(frozen=True)
class Part:
    """The predictions of one group that run in one batch."""

    group: Group
    ids: list[UUID]


@dataclass(frozen=True)
class Batch:
    """Predictions that run together."""

    parts: list[Part]
    is_redelivered: bool = False
    """The batch is one redelivered prediction. Its first delivery may have ended a worker."""

    @property
    def request_ids(self) -> dict[UUID, str | None]:
        """The predictions, each with the id of its HTTP request."""
        return {id: part.group.request_ids[id] for part in self.parts for id in part.ids}


class Collector:
    """The groups with waiting predictions. One thread calls all methods except `__bool__`."""

    def __init__(self, max_batch_size: int) -> None:
        self.max_batch_size = max_batch_size
        self._redelivered: deque[Group] = deque()
        self._interactive: deque[Group] = deque()
        self._bulk: deque[Group] = deque()
        self._without_bulk = 0
        """Consecutive batches without a bulk prediction, although one waited."""
        self._interactive_is_next = False

    def __bool__(self) -> bool:
        """Whether a group waits. May be called in any thread."""
        return bool(self._redelivered or self._interactive or self._bulk)

    def add(self, group: Group) -> None:
        if group.is_redelivered:
            self._redelivered.append(group)
        elif group.is_bulk:
            self._bulk.append(group)
        else:
            self._interactive.append(group)

    def choose(self, *, is_idle: bool, device_is_free: bool) -> Batch | None:
        """The next batch, if one may start. `is_idle`: no other batch is in progress.

        A redelivered prediction runs only while no other batch is in progress, because it may end the worker
        again. Redelivered predictions take turns with batches of interactive ones, which therefore wait for
        one redelivered prediction at most. Bulk waits for all redelivered ones.
        """
        if not self._redelivered:
            return self._take_first_deliveries() if device_is_free or self._is_full() else None
        if not is_idle:
            return None
        if self._interactive_is_next and (parts := _take_from(self._interactive, self.max_batch_size)):
            self._interactive_is_next = False
            return Batch(parts)
        parts = _take_from(self._redelivered, 1)
        self._interactive_is_next = bool(parts)
        return Batch(parts, is_redelivered=True) if parts else self._take_first_deliveries()

    def _take_first_deliveries(self) -> Batch | None:
        """Interactive predictions first, then bulk.

        After BULK_TURN batches without bulk, one bulk message goes first.
        """
        room = self.max_batch_size
        first: list[Part] = []
        if self._bulk and self._without_bulk >= BULK_TURN:
            first = _take_from(self._bulk, room, messages=1)
        interactive = _take_from(self._interactive, room - _count(first))
        rest = _take_from(self._bulk, room - _count(first) - _count(interactive))
        self._without_bulk = self._without_bulk + 1 if self._bulk and not (first or rest) else 0
        parts = [*first, *interactive, *rest]
        return Batch(parts) if parts else None

    def _is_full(self) -> bool:
        """Whether the waiting predictions fill a batch."""
        groups = (*self._interactive, *self._bulk)
        return sum(len(group.waiting) for group in groups) >= self.max_batch_size


def _take_from(queue: deque[Group], room: int, messages: int | None = None) -> list[Part]:
    """At most `room` predictions of at most `messages` messages, the oldest first."""
    parts: list[Part] = []
    while queue and room > 0 and len(parts) != messages:
        group = queue[0]
        ids = [] if group.is_returned else group.waiting[:room]
        group.waiting = group.waiting[len(ids) :]
        if ids:
            parts.append(Part(group, ids))
            room -= len(ids)
        if group.is_returned or not group.waiting:
            queue.popleft()
    return parts


def _count(parts: list[Part]) -> int:
    return sum(len(part.ids) for part in parts)
