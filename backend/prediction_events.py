"""The event streams of predictions, as bytes: the current state first, then what happens."""

from collections.abc import AsyncIterator

from backend.event_log import MAX_MISSED, EventLog
from backend.predictions import to_prediction
from backend.schemas.predictions import Prediction
from backend.sse import COMMENT, EventId, encode
from backend.subscriptions import Change, Subscription


async def follow(prediction: Prediction, latest: int, subscription: Subscription) -> AsyncIterator[bytes]:
    """One prediction as it was read when event `latest` was the latest, then each change; ends with it."""
    first = Change(latest, prediction.id, prediction)
    yield encode_of_one(first)
    if first.ended:
        return
    while (changes := await subscription.read()) is not None:
        unread = [change for change in changes if change.number > latest]
        ends = [place for place, change in enumerate(unread, start=1) if change.ended]
        if unread:
            yield b"".join(map(encode_of_one, unread[: ends[0]] if ends else unread))
        elif not changes:
            yield COMMENT
        if ends:
            return


def encode_of_one(change: Change) -> bytes:
    """An event of one prediction's stream. The id of the last one says so, for a reader that comes back."""
    return change.encode(EventId(change.number, change.ended))


async def follow_all(first: bytes, latest: int, subscription: Subscription) -> AsyncIterator[bytes]:
    """Every prediction: what was read when event `latest` was the latest, then each change."""
    yield first or COMMENT
    while (changes := await subscription.read()) is not None:
        unread = [change.event for change in changes if change.number > latest]
        if unread or not changes:
            yield b"".join(unread) or COMMENT


async def read_start(log: EventLog, seen: EventId | None) -> tuple[bytes, int]:
    """What the stream of every prediction starts with, and the number of the latest event in it.

    That is what the reader missed since the event `seen`. Without one, it is what is under way. If the reader
    missed too much, or its event is not known any more, it is `reload` and then what is under way.
    """
    if seen is not None:
        missed = await log.read_after(seen.number, MAX_MISSED + 1)
        if missed.kept and len(missed.rows) <= MAX_MISSED and all(row.prediction_id for row in missed.rows):
            return b"".join(Change.from_row(row).event for row in missed.rows), missed.latest
    return await read_under_way(log, reload=seen is not None)


async def read_under_way(log: EventLog, *, reload: bool) -> tuple[bytes, int]:
    """What is under way, at most the newest. A reader can resume after each of these events, too."""
    found = await log.read_unfinished()
    # 0 is no event: who comes back with it is told to reload.
    changes = [Change(row.number or 0, row.id, to_prediction(row)) for row in found.rows]
    numbers = [change.number for change in changes[:-1]] + [found.latest]
    events = [change.encode(EventId(number)) for change, number in zip(changes, numbers, strict=False)]
    if reload:
        events.insert(0, encode("reload", EventId(0 if changes else found.latest), "{}"))
    return b"".join(events), found.latest
