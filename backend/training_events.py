"""The event stream of one training.

A training has few readers and changes seldom. So each stream has its own query. The query runs when the
stream is woken, and at least every five seconds. Several changes may be sent as one.

An event's id is the number of the last epoch sent, and a client resumes after that epoch. (The id of the
last event ends with `-end`.) One worker at a time commits a training's epochs, in order, so none is missed.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from backend.errors import DatabaseAway, ServiceError
from backend.listener import REREAD_SECONDS
from backend.schemas import TERMINAL
from backend.schemas.trainings import Training
from backend.sse import COMMENT, KEEP_ALIVE_SECONDS, EventId, encode
from backend.subscriptions import Subscription
from backend.trainings import Progress, Trainings

logger = logging.getLogger(__name__)


async def stream_training(
    trainings: Trainings, first: Progress, subscription: Subscription
) -> AsyncIterator[bytes]:
    """Stream the training and the epochs of `first`, then each change until the terminal status."""
    progress, sent, sent_at = first, None, 0.0
    while True:
        events = encode_news(progress, sent)
        if events or time.monotonic() - sent_at > KEEP_ALIVE_SECONDS:
            yield events or COMMENT
            sent_at = time.monotonic()
        sent = progress.training
        if sent.status in TERMINAL:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(REREAD_SECONDS):
                if await subscription.read() is None:
                    return
        try:
            progress = await trainings.read(sent.id, progress.last_epoch)
        except DatabaseAway as error:
            logger.warning("cannot read a training, trying again: %s", error)
            progress = Progress(sent, progress.last_epoch, [])
        except ServiceError:  # the training was removed
            return


def encode_news(progress: Progress, sent: Training | None) -> bytes:
    """The events for `progress`: the training, if it differs from `sent`, and the epochs.

    The training comes before the epochs, but after them if it has ended.
    """
    events = [encode("epoch", EventId(epoch.number), epoch.model_dump_json()) for epoch in progress.epochs]
    if progress.training.status in TERMINAL:
        id = EventId(progress.last_epoch, ended=True)
        events.append(encode("training", id, progress.training.model_dump_json()))
    elif progress.training != sent:
        events.insert(0, encode("training", EventId(progress.after), progress.training.model_dump_json()))
    return b"".join(events)
