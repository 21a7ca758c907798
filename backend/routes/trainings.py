"""Trainings: start one, watch it, withdraw it."""

import logging
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from backend import logs
from backend.history import decode_cursor, encode_cursor
from backend.messages import TRAINING
from backend.routes import QueryParameters, as_json, describe_body, problems, read_body, services
from backend.routes.streams import LastEventId, NothingNew
from backend.schemas import TERMINAL
from backend.schemas.trainings import Training, TrainingDetail, TrainingPage, TrainingRequest
from backend.sse import EventId, as_stream, describe_stream
from backend.training_events import follow_curve

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/trainings", tags=["trainings"])

BODY = describe_body(TrainingRequest, "May be left out: then everything is at its default.", required=False)


@router.post(
    "",
    summary="Start a training",
    status_code=202,
    response_model=Training,
    responses=problems(413, 422, 429, 503),
    openapi_extra=BODY,
)
async def start_training(request: Request) -> Response:
    """Queue a training. The model that it publishes is registered, and served if `activation` has it so."""
    serve = services(request)
    training = await serve.trainings.insert(await read_body(request, TrainingRequest))
    serve.relay.publish_soon(TRAINING, [(training.id, logs.request_id.get())])
    logger.info("training accepted", extra={"training_id": str(training.id)})
    return as_json(training, 202, {"Location": training.urls.self})


class PageQuery(QueryParameters):
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, description="`next` of another page.")


@router.get(
    "", summary="The trainings, newest first", response_model=TrainingPage, responses=problems(422, 503)
)
async def list_trainings(request: Request, query: Annotated[PageQuery, Query()]) -> Response:
    older = decode_cursor(query.cursor)[1] if query.cursor else None
    found = await services(request).trainings.read_page(query.limit + 1, older)
    page = found[: query.limit]
    after = encode_cursor("older", page[-1].id) if len(found) > query.limit else None
    return as_json(TrainingPage(results=page, next=after))


@router.get(
    "/{id}",
    summary="One training with its curve",
    response_model=TrainingDetail,
    responses=problems(404, 422, 503),
)
async def read_training(id: UUID, request: Request) -> Response:
    reading = await services(request).trainings.read(id)
    return as_json(TrainingDetail(**dict(reading.training), curve=reading.epochs))


@router.post(
    "/{id}/cancel",
    summary="Withdraw a training",
    response_model=Training,
    responses=problems(404, 409, 422, 503),
)
async def cancel_training(id: UUID, request: Request) -> Response:
    """It is canceled at once; a worker that runs it stops within a second. Doing it twice does no harm."""
    training = await services(request).trainings.cancel(id)
    logger.info("training canceled", extra={"training_id": str(id)})
    return as_json(training)


async def open_training(
    id: UUID, request: Request, last_event_id: LastEventId = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Subscribe to one training and read what the reader misses. Raises UnknownTraining, NothingNew."""
    serve = services(request)
    seen = EventId.parse(last_event_id) or EventId(0)
    with serve.changes.trainings.follow(id) as signal:
        reading = await serve.trainings.read(id, seen.number)
        if seen.ended and reading.training.status in TERMINAL:
            raise NothingNew
        yield follow_curve(serve.trainings, reading, signal)


@router.get(
    "/{id}/events",
    summary="Follow one training",
    response_class=Response,
    responses={
        200: describe_stream("`training`: the training without its curve. `epoch`: one point of the curve."),
        204: {"description": "The terminal event was seen already."},
        **problems(404, 422, 503),
    },
)
async def follow_training(stream: Annotated[AsyncIterator[bytes], Depends(open_training)]) -> Response:
    """Server-sent events: `training`, its current status and each change of it, and `epoch`, those so far
    and each new one. Ends after the terminal `training`.

    `Last-Event-ID` resumes with the epochs that were not seen.
    """
    return as_stream(stream)
