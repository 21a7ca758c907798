"""The HTTP API, in the order of a prediction's life: upload, read, follow; and health."""

import asyncio
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from PIL import Image
from pydantic import BaseModel

from backend import health
from backend.broker import Broker
from backend.errors import PROBLEM_JSON, NothingAccepted, Overloaded, UploadError
from backend.events import Change, Changes, Subscription, follow, follow_all, wait_for
from backend.predictions import NewPrediction, Predictions, time_bound
from backend.relay import Relay
from backend.schemas import (
    TERMINAL,
    Failure,
    Health,
    Metrics,
    Prediction,
    PredictionBatch,
    PredictionPage,
    Problem,
    Refused,
    Status,
    Urls,
)
from backend.settings import Settings
from backend.uploads import INPUT_SIZE, Upload, decode, read_files

MAX_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Services:
    """What the application factory built, for the routes to use."""

    settings: Settings
    predictions: Predictions
    broker: Broker
    relay: Relay
    changes: Changes
    decoders: ThreadPoolExecutor


class NothingNew(Exception):
    """The reader has seen the terminal event already; 204 tells its EventSource to stop."""


def services(request: Request) -> Services:
    return request.app.state.services


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's entries for the errors that a call may answer."""
    return {status: {"model": Problem, "content": {PROBLEM_JSON: {}}} for status in statuses}


def as_json(content: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(content.model_dump_json(), status, headers, "application/json")


Serve = Annotated[Services, Depends(services)]
LastEventId = Annotated[str | None, Header(description="Resume after this event.")]
router = APIRouter(prefix="/api")

UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "One or more images: JPEG, PNG, WebP, GIF, BMP or TIFF.",
                        }
                    },
                }
            }
        },
    }
}


@router.post(
    "/predict",
    tags=["predictions"],
    summary="Classify one image or several",
    status_code=202,
    response_model=Prediction | PredictionBatch,
    responses={
        200: {"model": Prediction | PredictionBatch, "description": "Finished within `Prefer: wait`"},
        **problems(413, 415, 422, 429, 503),
    },
    openapi_extra=UPLOAD_BODY,
)
async def predict(
    request: Request,
    serve: Serve,
    prefer: Annotated[str | None, Header(description="`wait=N`: wait up to N seconds, 1 to 60.")] = None,
) -> Response:
    """Store the images and queue them; with `Prefer: wait=N`, wait for the outcome.

    An accepted image is never lost. Of several files, those that cannot be read are refused one by
    one: their entry holds `error`, the others go on.
    """
    if serve.relay.unfinished >= serve.settings.max_unfinished:
        detail = f"{serve.relay.unfinished:,} predictions wait already; try again in a few seconds."
        raise Overloaded(detail)
    uploads = await read_uploads(request, serve)
    if len(uploads) == 1 and isinstance(uploads[0].pixels, UploadError):
        raise uploads[0].pixels
    rows = [
        NewPrediction.create(upload.filename, upload.pixels)
        for upload in uploads
        if isinstance(upload.pixels, bytes)
    ]
    if not rows:
        refused = [refuse(upload).model_dump() for upload in uploads]
        detail = "Every file was refused; each entry of `predictions` says why."
        raise NothingAccepted(detail, predictions=refused)
    predictions = await store(serve, rows, parse_wait(prefer))
    finished = all(prediction.status in TERMINAL for prediction in predictions)
    status = 200 if finished else 202
    if len(uploads) == 1:
        (prediction,) = predictions
        return as_json(prediction, status, {"Location": prediction.urls.self})
    accepted = iter(predictions)
    entries = [refuse(u) if isinstance(u.pixels, UploadError) else next(accepted) for u in uploads]
    return as_json(PredictionBatch(predictions=entries), status)


async def read_uploads(request: Request, serve: Services) -> list[Upload]:
    """Read and decode a request's files; each decodes or is refused by itself."""
    files = await read_files(request, serve.settings)

    def decode_all() -> list[Upload]:
        return [Upload(name, try_decode(data, serve.settings)) for name, data in files]

    return await asyncio.get_running_loop().run_in_executor(serve.decoders, decode_all)


def try_decode(data: bytes, settings: Settings) -> bytes | UploadError:
    try:
        return decode(data, settings)
    except UploadError as error:
        return error


async def store(serve: Services, rows: list[NewPrediction], wait_seconds: float) -> list[Prediction]:
    """Commit rows and have them published; returns them as they are, or as they are after the wait."""
    queued = [as_queued(row) for row in rows]
    if not wait_seconds:
        await serve.predictions.insert(rows)
        serve.relay.publish_soon([row.id for row in rows])
        return queued
    async with serve.changes.subscribe(row.id for row in rows) as subscription:
        await serve.predictions.insert(rows)
        serve.relay.publish_soon([row.id for row in rows])
        return await wait_for(queued, subscription, wait_seconds)


def parse_wait(prefer: str | None) -> float:
    """Seconds to wait, 0 for none. RFC 7240: what cannot be understood is ignored."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?", prefer or "")
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else 0


def refuse(upload: Upload) -> Refused:
    error = upload.pixels
    assert isinstance(error, UploadError)
    return Refused(filename=upload.filename, error=Failure(title=error.title, detail=error.detail))


def as_queued(row: NewPrediction) -> Prediction:
    """A row as it is right after its insert."""
    place = f"/api/predictions/{row.id}"
    return Prediction(
        id=row.id,
        filename=row.filename,
        status="queued",
        prediction=None,
        confidence=None,
        probabilities=[],
        model=None,
        error=None,
        timestamp=row.timestamp,
        started_at=None,
        completed_at=None,
        metrics=Metrics(queue_ms=None, batch_size=None, predict_ms=None),
        feedback=None,
        urls=Urls(self=place, events=f"{place}/events", image=f"{place}/image"),
    )


@dataclass(frozen=True)
class Filters:
    """The history's filters, as query parameters; all that are given must hold."""

    status: Annotated[Status | None, Query()] = None
    label: Annotated[str | None, Query(max_length=200, description="The predicted label.")] = None
    min_confidence: Annotated[float | None, Query(ge=0, le=1)] = None
    from_: Annotated[datetime | None, Query(alias="from", description="Accepted at or after.")] = None
    to: Annotated[datetime | None, Query(description="Accepted before.")] = None
    q: Annotated[str | None, Query(max_length=200, description="Part of the file name.")] = None

    def parameters(self) -> dict[str, Any]:
        """Those that are set, by the names that the history's SQL has for them."""
        given = {
            "status": self.status,
            "label": self.label,
            "min_confidence": self.min_confidence,
            "from": self.from_ and time_bound(_as_utc(self.from_)),
            "to": self.to and time_bound(_as_utc(self.to)),
            "q": self.q and "%" + re.sub(r"([%_\\])", r"\\\1", self.q) + "%",
        }
        return {name: value for name, value in given.items() if value is not None}


@router.get(
    "/predictions",
    tags=["predictions"],
    summary="The history, newest first",
    response_model=PredictionPage,
    responses=problems(422, 503),
)
async def list_predictions(
    serve: Serve,
    filters: Annotated[Filters, Depends()],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(description="`next` or `previous` of another page.")] = None,
) -> Response:
    page = await serve.predictions.read_page(limit, cursor, filters.parameters())
    return as_json(PredictionPage(results=page.rows, next=page.next, previous=page.previous))


@router.get(
    "/predictions/{id}",
    tags=["predictions"],
    summary="One prediction",
    response_model=Prediction,
    responses=problems(404, 422, 503),
)
async def read_prediction(id: UUID, serve: Serve) -> Response:
    prediction, _ = await serve.predictions.read(id)
    return as_json(prediction)


@router.get(
    "/predictions/{id}/image",
    tags=["predictions"],
    summary="What the model saw",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **problems(404, 422, 503)},
)
async def read_image(id: UUID, serve: Serve) -> Response:
    """The 32 x 32 pixels after cropping and scaling, as PNG."""
    pixels = await serve.predictions.read_pixels(id)
    png = BytesIO()
    Image.frombytes("RGB", (INPUT_SIZE, INPUT_SIZE), pixels).save(png, "PNG")
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(png.getvalue(), headers=headers, media_type="image/png")


async def open_one(
    id: UUID, serve: Serve, last_event_id: LastEventId = None
) -> AsyncIterator[tuple[Change, Subscription]]:
    """Subscribe to one prediction and read its current status. Raises UnknownPrediction, NothingNew."""
    async with serve.changes.subscribe([id]) as subscription:
        prediction, snapshot = await serve.predictions.read(id)
        if last_event_id and prediction.status in TERMINAL:
            unseen, _ = await serve.predictions.read_changed(last_event_id, [id])
            if not unseen:
                raise NothingNew
        yield Change(prediction, snapshot), subscription


async def open_all(
    serve: Serve, last_event_id: LastEventId = None
) -> AsyncIterator[tuple[list[Change], Subscription]]:
    """Subscribe to everything and read what the reader missed, or what is under way."""
    async with serve.changes.subscribe(None) as subscription:
        if last_event_id:
            missed, snapshot = await serve.predictions.read_changed(last_event_id, None)
        else:
            missed, snapshot = await serve.predictions.read_unfinished()
        seen = [last_event_id or snapshot] * (len(missed) - 1) + [snapshot]
        yield [Change(p, s) for p, s in zip(missed, seen, strict=False)], subscription


@router.get(
    "/predictions/{id}/events",
    tags=["live status"],
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
    tags=["live status"],
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


@router.get(
    "/health",
    tags=["health"],
    summary="What works right now",
    response_model=Health,
    responses={503: {"model": Health, "description": "Predictions cannot be served."}},
)
async def read_health(serve: Serve) -> Response:
    report = await health.check(serve.predictions, serve.broker)
    return as_json(report, 503 if report.status == "down" else 200, {"Cache-Control": "no-store"})


@router.get("/health/live", tags=["health"], summary="The process answers")
async def read_live() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/health/ready", tags=["health"], summary="Uploads can be stored", responses=problems(503))
async def read_ready(serve: Serve) -> dict[str, str]:
    await serve.predictions.snapshot()
    return {"status": "ok"}


def _as_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
