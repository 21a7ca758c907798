"""Live status as server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from backend.events import Change, Subscription, follow, follow_all
from backend.routes import problems, services
from backend.schemas import TERMINAL

LastEventId = Annotated[str | None, Header(description="Resume after this event.")]
router = APIRouter(tags=["live status"])


class NothingNew(Exception):
    """The reader has seen the terminal event already; 204 tells its EventSource to stop."""


async def open_one(
    id: UUID, request: Request, last_event_id: LastEventId = None
) -> AsyncIterator[tuple[Change, Subscription]]:
    """Subscribe to one prediction and read its current status. Raises UnknownPrediction, NothingNew."""
    serve = services(request)
    with serve.changes.follow(id) as subscription:
        prediction, snapshot = await serve.predictions.read(id)
        if last_event_id and prediction.status in TERMINAL:
            unseen, _ = await serve.predictions.read_changed_among(last_event_id, [id])
            if not unseen:
                raise NothingNew
        yield Change(prediction, snapshot), subscription


async def open_all(
    request: Request, last_event_id: LastEventId = None
) -> AsyncIterator[tuple[list[Change], Subscription]]:
    """Subscribe to everything and read what the reader missed, or what is under way."""
    serve = services(request)
    with serve.changes.follow_all() as subscription:
        if since := last_event_id:
            missed, snapshot = await serve.predictions.read_changed(since)
        else:
            missed, since, snapshot = await serve.predictions.read_unfinished()
        # Only the last event may claim that all were seen.
        seen = [since] * (len(missed) - 1) + [snapshot]
        yield [Change(p, s) for p, s in zip(missed, seen, strict=False)], subscription


@router.get(
    "/predictions/{id}/events",
    summary="Follow one prediction",
    response_class=EventSourceResponse,
    responses={204: {"description": "The terminal event was seen already."}, **problems(404, 422, 503)},
)
async def follow_prediction(
    opened: Annotated[tuple[Change, Subscription], Depends(open_one)],
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events named `prediction`: its current status, each new one; ends after the terminal."""
    async for change in follow(*opened):
        yield as_event(change)


@router.get(
    "/events",
    summary="Follow every prediction",
    response_class=EventSourceResponse,
    responses=problems(422, 503),
)
async def follow_predictions(
    opened: Annotated[tuple[list[Change], Subscription], Depends(open_all)],
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events named `prediction`: first what is under way, then every change.

    `Last-Event-ID` resumes without a gap.
    """
    async for change in follow_all(*opened):
        yield as_event(change)


def as_event(change: Change) -> ServerSentEvent:
    return ServerSentEvent(
        raw_data=change.prediction.model_dump_json(), event="prediction", id=change.snapshot
    )
