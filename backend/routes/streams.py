"""Live status as server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response

from backend.prediction_events import follow, follow_all, read_start
from backend.routes import problems, services
from backend.schemas import TERMINAL
from backend.sse import EventId, as_stream, describe_stream

LastEventId = Annotated[str | None, Header(description="The id of the last event seen: resume after it.")]
router = APIRouter(tags=["live status"])


class NothingNew(Exception):
    """The reader has seen the terminal event already; 204 tells its EventSource to stop."""


async def open_one(
    id: UUID, request: Request, last_event_id: LastEventId = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Subscribe to one prediction and read its current status. Raises UnknownPrediction, NothingNew."""
    serve = services(request)
    seen = EventId.parse(last_event_id)
    with serve.changes.follow(id) as subscription:
        prediction, latest = await serve.predictions.read(id)
        if seen and seen.ended and prediction.status in TERMINAL:
            raise NothingNew
        yield follow(prediction, latest, subscription)


async def open_all(
    request: Request, last_event_id: LastEventId = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Subscribe to everything and read what the reader missed, or what is under way."""
    serve = services(request)
    seen = EventId.parse(last_event_id)
    with serve.changes.follow_all() as subscription:
        first, latest = await read_start(serve.event_log, seen)
        yield follow_all(first, latest, subscription)


@router.get(
    "/predictions/{id}/events",
    summary="Follow one prediction",
    response_class=Response,
    responses={
        200: describe_stream("`prediction`: the prediction. `deleted`: its `id`."),
        204: {"description": "The terminal event was seen already."},
        **problems(404, 422, 503),
    },
)
async def follow_prediction(stream: Annotated[AsyncIterator[bytes], Depends(open_one)]) -> Response:
    """Server-sent events named `prediction`: its current status, then each new one. The stream ends after the
    terminal status, or after an event `deleted` if the prediction is removed.
    """
    return as_stream(stream)


@router.get(
    "/events",
    summary="Follow every prediction",
    response_class=Response,
    responses={
        200: describe_stream("`prediction`: the prediction. `deleted`: its `id`. `reload`: an empty object."),
        **problems(422, 503),
    },
)
async def follow_predictions(stream: Annotated[AsyncIterator[bytes], Depends(open_all)]) -> Response:
    """Server-sent events named `prediction`: first what is under way, then every change. `deleted` names a
    prediction that was removed.

    `Last-Event-ID` resumes without a gap. A reader that missed more than 1,000 predictions, or whose event is
    not stored any more, gets an event `reload` first. It means: what you know may be out of date, read the
    history (`GET /api/predictions`) again. Then follows what is under way, at most the newest 1,000.
    """
    return as_stream(stream)
