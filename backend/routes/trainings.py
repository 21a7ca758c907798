"""Trainings: start, list, read, cancel and follow them."""

import logging
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from backend import logs
from backend.history import decode_cursor, encode_cursor
from backend.json_bodies import read_json
from backend.messages import TRAINING
from backend.openapi import describe_body, describe_problems, describe_stream
from backend.routes.streams import ENDED_OR_UNKNOWN, LastEventId, check_unread
from backend.schemas import QueryParameters
from backend.schemas.trainings import Training, TrainingDetail, TrainingPage, TrainingRequest
from backend.services import get_services
from backend.sse import EventId, as_stream
from backend.training_events import stream_training

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/trainings", tags=["trainings"])

BODY = describe_body(TrainingRequest, "Optional. Without it every member has its default.", required=False)


@router.post(
    "",
    summary="Start a training",
    status_code=202,
    responses=describe_problems(413, 422, 429, 503),
    openapi_extra=BODY,
)
async def start_training(request: Request, response: Response) -> Training:
    """Queues a training. At its end it publishes a model; `activation` says whether workers then serve it."""
    services = get_services(request)
    training = await services.trainings.insert(await read_json(request, TrainingRequest))
    services.relay.publish_soon(TRAINING, [(training.id, logs.request_id.get())])
    logger.info("training accepted", extra={"training_id": str(training.id)})
    response.headers["Location"] = training.urls.self
    return training


class PageQuery(QueryParameters):
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, description="The `next` of another page.")


@router.get("", summary="List trainings, newest first", responses=describe_problems(422, 503))
async def list_trainings(request: Request, query: Annotated[PageQuery, Query()]) -> TrainingPage:
    older = decode_cursor(query.cursor)[1] if query.cursor else None
    found = await get_services(request).trainings.read_page(query.limit + 1, older)
    page = found[: query.limit]
    after = encode_cursor("older", page[-1].id) if len(found) > query.limit else None
    return TrainingPage(results=page, next=after)


@router.get("/{id}", summary="Read one training with its curve", responses=describe_problems(404, 422, 503))
async def read_training(id: UUID, request: Request) -> TrainingDetail:
    progress = await get_services(request).trainings.read(id)
    return TrainingDetail(**dict(progress.training), curve=progress.epochs)


@router.post("/{id}/cancel", summary="Cancel one training", responses=describe_problems(404, 409, 422, 503))
async def cancel_training(id: UUID, request: Request) -> Training:
    """Cancels the training immediately; its worker stops the work within three seconds.
    Repeating the request has no further effect.
    """
    training = await get_services(request).trainings.cancel(id)
    logger.info("training canceled", extra={"training_id": str(id)})
    return training


async def open_training(
    id: UUID, request: Request, last_event_id: LastEventId = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Subscribe to one training, and yield its stream. Raises UNKNOWN_TRAINING."""
    services = get_services(request)
    seen = EventId.parse(last_event_id) or EventId(0)
    with services.events.training_streams.add([id]) as subscription:
        progress = await services.trainings.read(id, seen.number)
        check_unread(seen, progress.training.status)
        yield stream_training(services.trainings, progress, subscription)


@router.get(
    "/{id}/events",
    summary="Follow one training",
    response_class=Response,
    responses={
        200: describe_stream("`training`: the training without its curve. `epoch`: one epoch of the curve."),
        **ENDED_OR_UNKNOWN,
    },
)
async def follow_training(stream: Annotated[AsyncIterator[bytes], Depends(open_training)]) -> Response:
    """Sends an event `training` with the current state, another after changes, and an event `epoch` for each
    epoch. The stream ends after the event `training` with a terminal status.

    A reader that sends `Last-Event-ID` receives the epochs after it.
    """
    return as_stream(stream)
