"""Uploads: `POST /api/predict`."""

import asyncio
import re

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from backend.errors import Refusal, ServiceError
from backend.header_fields import read_list
from backend.openapi import describe_problems
from backend.schemas import TERMINAL
from backend.schemas.predictions import Prediction, UploadAnswer
from backend.services import get_services

MAX_WAIT_SECONDS = 60
MAX_KEY_CHARACTERS = 255


class PlainRoute(APIRoute):
    """A route that FastAPI documents, and whose function receives only the request.

    FastAPI's dependencies and exit stacks took 5 to 19% of the backend's CPU time for an upload (two noisy
    runs). Errors of the function are answered as in every other route.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in self.methods:
            await super().handle(scope, receive, send)  # answers 405
            return
        answer = await self.endpoint(Request(scope, receive, send))
        await answer(scope, receive, send)


router = APIRouter(route_class=PlainRoute)

PREFER = {
    "name": "prefer",
    "in": "header",
    "description": "`wait=N`: wait up to N seconds (1 to 60) for the outcome.",
    "schema": {"type": "array", "items": {"type": "string"}},
}
IDEMPOTENCY_KEY = {
    "name": "idempotency-key",
    "in": "header",
    "description": "A request that is repeated with the same key and images stores no second row.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARACTERS},
}
FILES = {
    "type": "array",
    "items": {"type": "string", "format": "binary"},
    "description": "One or more images: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC, AVIF.",
}
FORM = {"schema": {"type": "object", "required": ["file"], "properties": {"file": FILES}}}
REQUEST = {
    "parameters": [PREFER, IDEMPOTENCY_KEY],
    "requestBody": {"required": True, "content": {"multipart/form-data": FORM}},
}


@router.post(
    "/predict",
    tags=["predictions"],
    summary="Classify one image or several",
    status_code=202,
    response_model=Prediction | UploadAnswer,
    responses={
        200: {"model": Prediction | UploadAnswer, "description": "Every prediction has ended."},
        **describe_problems(413, 415, 422, 429, 503),
    },
    openapi_extra=REQUEST,
)
async def predict(request: Request) -> Response:
    """Stores the images and queues them. With `Prefer: wait=N`, waits for the outcome.

    An accepted image is never lost. If one of several files cannot be read, only this file is refused: its
    entry holds `error`.
    """
    services = get_services(request)
    # RFC 7240: the wait counts from the receipt of the request.
    received = asyncio.get_running_loop().time()
    wait_seconds = parse_wait(*request.headers.getlist("prefer"))
    try:
        key = read_key(request)
        services.submissions.check_room()
        files = await services.uploads.read(request)
        deadline = received + wait_seconds if wait_seconds else None
        entries = await services.submissions.submit(files, deadline, key)
    except ServiceError as error:
        if error.refusal is not Refusal.NOTHING_ACCEPTED:  # `submit` has counted each refused file
            services.metrics.refused.labels(error.refusal.title).inc()
        raise
    headers = {"Preference-Applied": f"wait={wait_seconds}"} if wait_seconds else {}
    predictions = [entry for entry in entries if isinstance(entry, Prediction)]
    status = 200 if all(prediction.status in TERMINAL for prediction in predictions) else 202
    if len(files) > 1:
        content = f'{{"predictions":[{",".join(entry.encoded for entry in entries)}]}}'
    else:
        (prediction,) = predictions
        content = prediction.encoded
        headers["Location"] = prediction.urls.self
    return Response(content, status, headers, "application/json")


def parse_wait(*prefer: str) -> int:
    """Seconds to wait, or 0. Only the first `wait` counts (RFC 7240), and only with up to 20 digits."""
    waits = [preference.value for preference in read_list(prefer) if preference.name == "wait"]
    return min(int(waits[0]), MAX_WAIT_SECONDS) if waits and re.fullmatch("[0-9]{1,20}", waits[0]) else 0


def read_key(request: Request) -> str | None:
    """The `Idempotency-Key`, if there is one. Raises BAD_PARAMETER."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        detail = f"The Idempotency-Key must have 1 to {MAX_KEY_CHARACTERS} characters. Send another key."
        raise ServiceError(Refusal.BAD_PARAMETER, detail)
    return key
