"""The live curve of one training, as events that a reader can resume after.

Each stream reads what its own snapshot does not show yet, and hands it out as events. What is read
together is sent one by one, so each event's id is the part of the snapshot before the first transaction
that is still to be sent; only the last one's is all of it.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from backend.errors import DatabaseAway, UnknownTraining
from backend.schemas import TERMINAL
from backend.schemas.trainings import Epoch, Training
from backend.signals import Signal
from backend.trainings import Reading, Trainings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingEvent:
    """A training as it now is, or one more epoch of it, and the snapshot to resume from after it."""

    content: Training | Epoch
    snapshot: str


async def follow_curve(trainings: Trainings, first: Reading, signal: Signal) -> AsyncIterator[TrainingEvent]:
    """The training and its epochs as first read, then what is new; ends after the terminal status."""
    reading, latest = first, None
    while True:
        for event in as_events(reading, latest):
            yield event
        latest = reading.training
        if latest.status in TERMINAL:
            return
        since = reading.snapshot
        while await signal.wait():
            try:
                reading = await trainings.read(latest.id, since)
                break
            except DatabaseAway as error:
                logger.warning("cannot read a training, trying again: %s", error)
            except UnknownTraining:
                return
        else:
            return


def as_events(reading: Reading, latest: Training | None) -> Iterator[TrainingEvent]:
    """What one reading shows, in order: the training if it differs from `latest`, and the epochs.

    A training that goes on comes first, one that has ended last.
    """
    parts: list[tuple[Training | Epoch, int]] = list(reading.epochs)
    if reading.training != latest:
        place = len(parts) if reading.training.status in TERMINAL else 0
        parts.insert(place, (reading.training, reading.changed))
    snapshots = [reading.snapshot]
    for _, unsent in reversed(parts[1:]):
        snapshots.append(cut(snapshots[-1], unsent))
    for (content, _), snapshot in zip(parts, reversed(snapshots), strict=False):
        yield TrainingEvent(content, snapshot)


def cut(snapshot: str, transaction: int) -> str:
    """The part of a snapshot before one transaction."""
    least, end, under_way = snapshot.split(":")
    kept = [number for number in under_way.split(",") if number and int(number) < transaction]
    return f"{min(int(least), transaction)}:{min(int(end), transaction)}:{','.join(kept)}"
