"""Server-sent events: their bytes and their ids."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi.responses import StreamingResponse

from backend.errors import Refusal, ServiceError

KEEP_ALIVE_SECONDS = 15.0
COMMENT = b": keep-alive\n\n"  # keeps proxies and browsers from closing a quiet stream; readers ignore it

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MEDIA_TYPE = "text/event-stream"


def as_stream(chunks: AsyncIterator[bytes]) -> StreamingResponse:
    """An answer with encoded events, each chunk in one write."""
    return StreamingResponse(chunks, headers=HEADERS, media_type=MEDIA_TYPE)


@dataclass(frozen=True)
class EventId:
    """An event's id: number (for a training, the last epoch sent), and whether the event ends its stream."""

    number: int
    ended: bool = False

    def __str__(self) -> str:
        return f"{self.number}-end" if self.ended else str(self.number)

    @classmethod
    def parse(cls, text: str | None) -> "EventId | None":
        """Parse a `Last-Event-ID`; None if none was sent. Raises BAD_PARAMETER.

        An id of an earlier release, such as `812:815:813`, is read as 0, which precedes all events.
        """
        if not text:
            return None
        if found := re.fullmatch(r"([0-9]{1,18})(-end)?", text):
            return cls(int(found[1]), found[2] is not None)
        if re.fullmatch(r"[0-9]+:[0-9]+:[0-9,]*", text):
            return cls(0)
        detail = "The Last-Event-ID is invalid. Leave it out to start again."
        raise ServiceError(Refusal.BAD_PARAMETER, detail)


def encode(name: str, id: EventId, data: str) -> bytes:
    """One event. `data` is JSON on one line."""
    return f"event: {name}\nid: {id}\ndata: {data}\n\n".encode()
