"""The event streams of predictions: the current state first, then the changes.

If a prediction changes several times in a short time, perhaps only the latest change is sent.
"""

from collections.abc import AsyncIterator

from backend.event_log import MAX_MISSED, EventLog
from backend.prediction_rows import to_prediction
from backend.schemas.predictions import Prediction
from backend.sse import COMMENT, EventId, encode
from backend.subscriptions import Change, Subscription


async def stream_one(prediction: Prediction, latest: int, subscription: Subscription) -> AsyncIterator[bytes]:
    """Stream one prediction: its state as of the event `latest`, then its changes until it has ended."""
    first = Change(latest, prediction.id, prediction)
    yield encode_for_one(first)
    if first.ended:
        return
    while (changes := await subscription.read()) is not None:
        unread = [change for change in changes if change.number > latest]
        ends = [place for place, change in enumerate(unread, start=1) if change.ended]
        if unread:
            yield b"".join(map(encode_for_one, unread[: ends[0]] if ends else unread))
        elif not changes:
            yield COMMENT
        if ends:
            return


def encode_for_one(change: Change) -> bytes:
    """An event of the stream of one prediction. The id of the terminal event ends with `-end`."""
    return change.encode(EventId(change.number, change.ended))


async def stream_all(first: bytes, latest: int, subscription: Subscription) -> AsyncIterator[bytes]:
    """Stream all predictions: the events `first`, which show the state as of the event `latest`, then the
    changes."""
    yield first or COMMENT
    while (changes := await subscription.read()) is not None:
        unread = [change.event for change in changes if change.number > latest]
        if unread or not changes:
            yield b"".join(unread) or COMMENT


async def read_start(log: EventLog, seen: EventId | None) -> tuple[bytes, int]:
    """The first events of the stream of all predictions, and the number of the latest event that they show.

    They are the events after `seen`; without `seen`, the unfinished predictions, at most the newest 1,000. If
    the client missed too much, or events after `seen` may be missing: `reload`, then the unfinished
    predictions. A client may reconnect after each of these events, and misses nothing.
    """
    if seen is not None:
        missed = await log.read_after(seen.number, MAX_MISSED + 1)
        if missed.kept and len(missed.rows) <= MAX_MISSED and all(row.prediction_id for row in missed.rows):
            return b"".join(Change.from_row(row).event for row in missed.rows), missed.latest
    found = await log.read_unfinished()
    # Without a stored event the number is 0: a client that reconnects with it receives `reload`.
    changes = [Change(row.number or 0, row.id, to_prediction(row)) for row in found.rows]
    numbers = [change.number for change in changes[:-1]] + [found.latest]
    events = [change.encode(EventId(number)) for change, number in zip(changes, numbers, strict=False)]
    if seen is not None:
        events.insert(0, encode("reload", EventId(0 if changes else found.latest), "{}"))
    return b"".join(events), found.latest
