"""Uploads: `POST /api/predict`."""

import logging
import re
import time
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request, Response

from backend import logs
from backend.errors import BadParameter, NothingAccepted, Overloaded, ServiceError, UploadError
from backend.events import wait_for
from backend.header_fields import read_list
from backend.messages import BULK, INFERENCE
from backend.predictions import NewPrediction
from backend.repeats import insert_once
from backend.routes import PlainRoute, Services, as_json, problems, services
from backend.schemas import TERMINAL, Failure
from backend.schemas.predictions import Metrics, Prediction, PredictionBatch, Refused, Urls
from backend.uploads import Upload, read_uploads

logger = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 60
MAX_KEY_CHARACTERS = 255

router = APIRouter(route_class=PlainRoute)


def describe_header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """OpenAPI's entry for a header that may be left out."""
    return {
        "name": name.lower(),
        "in": "header",
        "required": False,
        "schema": {"anyOf": [schema, {"type": "null"}], "description": description, "title": name},
        "description": description,
    }


REQUEST = {
    "parameters": [
        describe_header(
            "Prefer", "`wait=N`: wait up to N seconds, 1 to 60.", type="array", items={"type": "string"}
        ),
        describe_header(
            "Idempotency-Key",
            "The same key and images again make no second row.",
            type="string",
            minLength=1,
            maxLength=MAX_KEY_CHARACTERS,
        ),
    ],
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
                            "description": "One or more images: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC, AVIF.",
                        }
                    },
                }
            }
        },
    },
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
    openapi_extra=REQUEST,
)
async def predict(request: Request) -> Response:
    """Store the images and queue them; with `Prefer: wait=N`, wait for the outcome.

    An accepted image is never lost. Of several files, those that cannot be read are refused one by
    one: their entry holds `error`, the others go on.
    """
    serve = services(request)
    wait_seconds = parse_wait(request.headers.getlist("prefer"))
    key = read_key(request)
    try:
        answer = await take(request, serve, wait_seconds, key)
    except ServiceError as error:
        if not isinstance(error, NothingAccepted):  # its files have been counted one by one
            serve.metrics.count_refused(error.title)
        raise
    if wait_seconds:
        answer.headers["Preference-Applied"] = f"wait={wait_seconds}"
    return answer


async def take(request: Request, serve: Services, wait_seconds: float, key: str | None) -> Response:
    """Read, store and answer one upload. Raises ServiceError when all of it is refused."""
    if serve.relay.unfinished >= serve.settings.max_unfinished:
        detail = f"{serve.relay.unfinished:,} predictions wait already; try again in a few seconds."
        raise Overloaded(detail)
    received = time.monotonic()
    with serve.uploading.hold(request):
        uploads = await read_uploads(request, serve.settings, serve.decoders)
    if len(uploads) == 1 and isinstance(refusal := uploads[0].pixels, UploadError):
        raise type(refusal)(refusal.detail)
    note_refused(uploads, serve)
    rows = [
        NewPrediction.create(upload.filename, upload.pixels, bulk=len(uploads) > 1)
        for upload in uploads
        if isinstance(upload.pixels, bytes)
    ]
    if not rows:
        refused = [refuse(upload).model_dump() for upload in uploads]
        detail = "Every file was refused; each entry of `predictions` says why."
        raise NothingAccepted(detail, predictions=refused)
    # RFC 7240: the wait counts from the moment at which the request was received.
    left = max(0.0, wait_seconds - (time.monotonic() - received))
    predictions = await store(serve, rows, left, key)
    finished = all(prediction.status in TERMINAL for prediction in predictions)
    status = 200 if finished else 202
    if len(uploads) == 1:
        (prediction,) = predictions
        return as_json(prediction, status, {"Location": prediction.urls.self})
    accepted = iter(predictions)
    entries = [refuse(u) if isinstance(u.pixels, UploadError) else next(accepted) for u in uploads]
    return as_json(PredictionBatch(predictions=entries), status)


async def store(
    serve: Services, rows: list[NewPrediction], wait_seconds: float, key: str | None
) -> list[Prediction]:
    """Commit rows and have them published; returns them as they are, or as they are after the wait."""
    if key is not None:
        return await store_once(serve, rows, wait_seconds, key)
    queued = [as_queued(row) for row in rows]
    if not wait_seconds:
        await commit(serve, rows)
        return queued
    with serve.changes.await_outcomes([row.id for row in rows]) as subscription:
        await commit(serve, rows)
        return await wait_for(queued, subscription, wait_seconds)


async def store_once(
    serve: Services, rows: list[NewPrediction], wait_seconds: float, key: str
) -> list[Prediction]:
    """The same of a request with a key: what was stored under it before is answered as it is now.

    Raises KeyReused.
    """
    stored = await insert_once(serve.database, rows, key)
    if new := [row for row, (_, is_new) in zip(rows, stored, strict=True) if is_new]:
        announce(serve, new)
    predictions = [prediction for prediction, _ in stored]
    if not wait_seconds:
        return predictions
    with serve.changes.await_outcomes([prediction.id for prediction in predictions]) as subscription:
        # Again, for they may have ended before anyone listened; none is new.
        latest = [prediction for prediction, _ in await insert_once(serve.database, rows, key)]
        return await wait_for(latest, subscription, wait_seconds)


async def commit(serve: Services, rows: list[NewPrediction]) -> None:
    """Store rows, and announce them."""
    await serve.predictions.insert(rows)
    announce(serve, rows)


def announce(serve: Services, rows: list[NewPrediction]) -> None:
    """See to it that a request's stored rows are published, counted and told in the log."""
    request_id = logs.request_id.get()
    queue = BULK if rows[0].bulk else INFERENCE
    serve.relay.publish_soon(queue, [(row.id, request_id) for row in rows])
    serve.metrics.count_accepted(len(rows))
    logger.info("uploads accepted", extra={"prediction_ids": [str(row.id) for row in rows]})


def note_refused(uploads: list[Upload], serve: Services) -> None:
    """Count and log the files of several that are refused; a lone one is answered as a problem."""
    for upload in uploads:
        if isinstance(upload.pixels, UploadError):
            serve.metrics.count_refused(upload.pixels.title)
            logger.info("file refused", extra={"title": upload.pixels.title, "file": upload.filename})


def parse_wait(prefer: list[str]) -> int:
    """Seconds to wait, 0 for none. RFC 7240: the first `wait` counts, and is ignored if it is no number."""
    return _parse_wait(",".join(prefer))


@lru_cache(maxsize=64)  # most clients send the same: 14 µs
def _parse_wait(prefer: str) -> int:
    waits = [preference.value for preference in read_list([prefer]) if preference.name == "wait"]
    return min(int(waits[0]), MAX_WAIT_SECONDS) if waits and re.fullmatch("[0-9]{1,20}", waits[0]) else 0


def read_key(request: Request) -> str | None:
    """The `Idempotency-Key`, if there is one. Raises BadParameter."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        limit = f"1 to {MAX_KEY_CHARACTERS} characters"
        raise BadParameter(f"header.idempotency-key: It may have {limit}. See /docs for what is accepted.")
    return key


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
        energy=None,
        unfamiliar=None,
        error=None,
        timestamp=row.timestamp,
        started_at=None,
        completed_at=None,
        metrics=Metrics(queue_ms=None, batch_size=None, predict_ms=None),
        feedback=None,
        urls=Urls(self=place, events=f"{place}/events", image=f"{place}/image"),
    )
