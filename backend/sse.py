"""Server-sent events: what goes over the wire, and the id that a reader resumes after."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi.responses import StreamingResponse

from backend.errors import BadParameter

KEEP_ALIVE_SECONDS = 15.0
COMMENT = b": keep-alive\n\n"  # proxies and browsers see that the stream lives; readers ignore it

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MEDIA_TYPE = "text/event-stream"


def as_stream(chunks: AsyncIterator[bytes]) -> StreamingResponse:
    """Answer with ready-made chunks, each in one write."""
    return StreamingResponse(chunks, headers=HEADERS, media_type=MEDIA_TYPE)


def describe_stream(description: str) -> dict[str, Any]:
    """OpenAPI's entry for a stream of events."""
    members = {name: {"type": "string"} for name in ("event", "id", "data")}
    event = {"type": "object", "properties": members, "required": list(members)}
    return {"description": description, "content": {MEDIA_TYPE: {"itemSchema": event}}}


@dataclass(frozen=True)
class EventId:
    """How far a reader is: the number of the last event that it saw, and whether the stream ended with it."""

    number: int
    ended: bool = False

    def __str__(self) -> str:
        return f"{self.number}-end" if self.ended else str(self.number)

    @classmethod
    def parse(cls, text: str | None) -> "EventId | None":
        """A `Last-Event-ID`; None when none was sent. Raises BadParameter.

        A reader with an id of an earlier release, a database snapshot, is treated as one that saw nothing.
        """
        if not text:
            return None
        if found := re.fullmatch(r"([0-9]{1,18})(-end)?", text):
            return cls(int(found[1]), found[2] is not None)
        if re.fullmatch(r"[0-9]+:[0-9]+:[0-9,]*", text):
            return cls(0)
        detail = "Last-Event-ID is not an id that this service gave; leave it out to start anew."
        raise BadParameter(detail)


def encode(name: str, id: EventId, data: str) -> bytes:
    """One event. `data` is JSON on one line."""
    return f"event: {name}\nid: {id}\ndata: {data}\n\n".encode()
