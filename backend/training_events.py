"""The event stream of one training.

An event's id is the number of the last epoch that was sent, and a reader resumes after that epoch. No epoch
is missed, because one worker at a time commits the epochs of a run in their order.
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
    """The training and its epochs as first read, then every change; ends after the terminal status."""
    reading, latest, sent_at = first, None, 0.0
    while True:
        events = encode_news(reading, latest)
        if events or time.monotonic() - sent_at > KEEP_ALIVE_SECONDS:
            yield events or COMMENT
            sent_at = time.monotonic()
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
    """The events of one reading: the training, if it differs from `latest`, and the epochs.

    The training comes before the epochs, but after them if it has ended.
    """
    events = [encode("epoch", EventId(epoch.number), epoch.model_dump_json()) for epoch in reading.epochs]
    if reading.training.status in TERMINAL:
        id = EventId(reading.last_epoch, ended=True)
        events.append(encode("training", id, reading.training.model_dump_json()))
    elif reading.training != latest:
        events.insert(0, encode("training", EventId(reading.after), reading.training.model_dump_json()))
    return b"".join(events)
