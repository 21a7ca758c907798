"""Live status as server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response

from backend.openapi import describe_problems, describe_stream
from backend.prediction_events import read_start, stream_all, stream_one
from backend.schemas import TERMINAL, Status
from backend.services import get_services
from backend.sse import EventId, as_stream

LastEventId = Annotated[
    str | None, Header(description="The id of the last event received. Browsers send it when they reconnect.")
]
ENDED_OR_UNKNOWN = {
    204: {"description": "`Last-Event-ID` is the id of the terminal event."},
    **describe_problems(404, 422, 503),
}
router = APIRouter(tags=["live status"])


def check_unread(seen: EventId | None, status: Status) -> None:
    """Raises HTTPException(204) if the reader has received the terminal event: 204 stops its EventSource."""
    if seen and seen.ended and status in TERMINAL:
        raise HTTPException(204)


async def open_one(
    id: UUID, request: Request, last_event_id: LastEventId = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Subscribe to one prediction and read its current status. Raises UNKNOWN_PREDICTION."""
    services = get_services(request)
    seen = EventId.parse(last_event_id)
    with services.events.streams.add([id]) as subscription:
        prediction, latest = await services.predictions.read(id)
        check_unread(seen, prediction.status)
        yield stream_one(prediction, latest, subscription)


async def open_all(
    request: Request, last_event_id: LastEventId = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Subscribe to all predictions and read the missed events, or the unfinished predictions."""
    services = get_services(request)
    seen = EventId.parse(last_event_id)
    with services.events.streams.add() as subscription:
        first, latest = await read_start(services.event_log, seen)
        yield stream_all(first, latest, subscription)


@router.get(
    "/predictions/{id}/events",
    summary="Follow one prediction",
    response_class=Response,
    responses={
        200: describe_stream("`prediction`: the prediction. `deleted`: its `id`."),
        **ENDED_OR_UNKNOWN,
    },
)
async def follow_prediction(stream: Annotated[AsyncIterator[bytes], Depends(open_one)]) -> Response:
    """Sends an event `prediction` with the current status, then one for each change. Of several changes
    within milliseconds it may send only the latest. The stream ends after the terminal status, or after an
    event `deleted` if the prediction is removed."""
    return as_stream(stream)


@router.get(
    "/events",
    summary="Follow every prediction",
    response_class=Response,
    responses={
        200: describe_stream("`prediction`: the prediction. `deleted`: its `id`. `reload`: an empty object."),
        **describe_problems(422, 503),
    },
)
async def follow_predictions(stream: Annotated[AsyncIterator[bytes], Depends(open_all)]) -> Response:
    """Sends events `prediction`: first the newest 1,000 unfinished predictions, then each change. Of several
    quick changes of a prediction it may send only the latest. `deleted` has the id of a removed prediction.

    A reader that sends `Last-Event-ID` receives each prediction that has changed since that event. If more
    than 1,000 have changed, or that event is no longer stored, the first event is `reload`. It tells the
    reader to read the history (`GET /api/predictions`) again. The newest 1,000 unfinished predictions follow.
    """
    return as_stream(stream)
