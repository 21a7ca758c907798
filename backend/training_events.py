"""The live curve of one training, as events that a reader can resume after.

An event's id is the number of the last epoch that was sent. That is enough to resume: a run's epochs are
committed in their order, since one worker at a time measures them.
"""

import logging
import time
from collections.abc import AsyncIterator

from backend.errors import DatabaseAway, UnknownTraining
from backend.schemas import TERMINAL
from backend.schemas.trainings import Training
from backend.signals import Signal
from backend.sse import COMMENT, KEEP_ALIVE_SECONDS, EventId, encode
from backend.trainings import Reading, Trainings

logger = logging.getLogger(__name__)


async def follow_curve(trainings: Trainings, first: Reading, signal: Signal) -> AsyncIterator[bytes]:
    """The training and its epochs as first read, then what is new; ends after the terminal status."""
    reading, latest, said_at = first, None, 0.0
    while True:
        events = encode_news(reading, latest)
        if events or time.monotonic() - said_at > KEEP_ALIVE_SECONDS:
            yield events or COMMENT
            said_at = time.monotonic()
        latest = reading.training
        if latest.status in TERMINAL:
            return
        while await signal.wait():
            try:
                reading = await trainings.read(latest.id, reading.last_epoch)
                break
            except DatabaseAway as error:
                logger.warning("cannot read a training, trying again: %s", error)
            except UnknownTraining:
                return
        else:
            return


def encode_news(reading: Reading, latest: Training | None) -> bytes:
    """What one reading shows, in order: the training if it differs from `latest`, and the epochs.

    A training that goes on comes first, one that has ended last.
    """
    events = [encode("epoch", EventId(epoch.number), epoch.model_dump_json()) for epoch in reading.epochs]
    if reading.training.status in TERMINAL:
        id = EventId(reading.last_epoch, ended=True)
        events.append(encode("training", id, reading.training.model_dump_json()))
    elif reading.training != latest:
        events.insert(0, encode("training", EventId(reading.after), reading.training.model_dump_json()))
    return b"".join(events)
