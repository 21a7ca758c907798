"""What the service answers when it cannot do what was asked.

ServiceError
├── UploadError            this file cannot be classified; its neighbours can
│   ├── EmptyUpload        422  the file has no bytes
│   ├── NotAnImage         415  no supported image format, judged by content
│   ├── UnsupportedVariant 415  a supported format, but a variant of it that is not decoded
│   ├── BrokenImage        422  an image that ends early or is damaged
│   ├── TooManyPixels      413  width times height over the limit
│   ├── TooCostly          422  it takes too much time or memory to decode
│   ├── OutOfTime          429  the request's time is over; earlier files or other requests took it
│   └── FileTooLarge       413  bytes over the limit
├── RequestTooLarge        413  the whole request over the limit
├── NoFile                 422  no part named `file`, or not multipart at all
├── TooManyFiles           413  more files than one request may carry
├── NothingAccepted        422  several files, and not one of them could be taken
├── KeyReused              422  an Idempotency-Key that came with other images before
├── BadParameter           422  a query parameter, header or body that cannot be understood
├── UnknownPrediction      404  no prediction has this id
├── UnknownTraining        404  no training has this id
├── UnknownModel           404  no worker has found a model of this version
├── UnknownPicture         404  the model has no such picture, or none that can be shown
├── PredictionEnded        409  it cannot be canceled any more
├── TrainingEnded          409  the same
├── ModelRefused           409  the model cannot be served
├── Overloaded             429  too many predictions wait already
├── TooManyUploads         429  too many bytes are being uploaded already
├── TooManyTrainings       429  too many trainings wait or run already
├── SearchTooLong          503  a read of the history did not end in time
├── TooManySearches        503  the connections for searches or exports are taken
├── Stopping               503  the backend is ending
└── DatabaseAway           503  nothing can be stored or read now

`title` is fixed for a class; `detail` says what happened here and what to do next.
"""

import logging
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"


class ServiceError(Exception):
    """Base of this service's errors: a status, a fixed title, and what to do next."""

    status: ClassVar[int]
    title: ClassVar[str]
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members


class UploadError(ServiceError):
    """This file cannot be classified."""


class EmptyUpload(UploadError):
    status, title = 422, "Empty file"


class NotAnImage(UploadError):
    status, title = 415, "Not a supported image"


class UnsupportedVariant(UploadError):
    status, title = 415, "Image variant not supported"


class BrokenImage(UploadError):
    status, title = 422, "Damaged image"


class TooManyPixels(UploadError):
    status, title = 413, "Image has too many pixels"


class TooCostly(UploadError):
    status, title = 422, "Image too costly to decode"


class OutOfTime(UploadError):
    status, title = 429, "Not decoded in time"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "10"}


class FileTooLarge(UploadError):
    status, title = 413, "File too large"


class RequestTooLarge(ServiceError):
    status, title = 413, "Request too large"


class NoFile(ServiceError):
    status, title = 422, "No file in the request"


class TooManyFiles(ServiceError):
    status, title = 413, "Too many files"


class NothingAccepted(ServiceError):
    status, title = 422, "No file could be accepted"


class KeyReused(ServiceError):
    status, title = 422, "Idempotency key used before"


class BadParameter(ServiceError):
    status, title = 422, "Bad parameter"


class UnknownPrediction(ServiceError):
    status, title = 404, "Unknown prediction"


class UnknownTraining(ServiceError):
    status, title = 404, "Unknown training"


class UnknownModel(ServiceError):
    status, title = 404, "Unknown model"


class UnknownPicture(ServiceError):
    status, title = 404, "Unknown picture"


class PredictionEnded(ServiceError):
    status, title = 409, "The prediction has ended"


class TrainingEnded(ServiceError):
    status, title = 409, "The training has ended"


class ModelRefused(ServiceError):
    status, title = 409, "The model cannot be served"


class Overloaded(ServiceError):
    status, title = 429, "Too many predictions are waiting"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "2"}


class TooManyUploads(ServiceError):
    status, title = 429, "Too many uploads at once"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "2"}


class TooManyTrainings(ServiceError):
    status, title = 429, "Too many trainings are waiting"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "60"}


class SearchTooLong(ServiceError):
    status, title = 503, "The search takes too long"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}


class TooManySearches(ServiceError):
    status, title = 503, "Too many searches at once"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}


class Stopping(ServiceError):
    status, title = 503, "The backend is stopping"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "2"}


class DatabaseAway(ServiceError):
    status, title = 503, "The database is away"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}


def problem(request: Request, status: int, title: str, detail: str, **members: Any) -> JSONResponse:
    """An RFC 9457 answer, and a line in the log."""
    level = logging.INFO if status < 500 else logging.WARNING
    extra = {"title": title, "status": status, "path": request.scope["path"]}
    logger.log(level, "request refused", extra=extra)
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request.state.request_id,
        **members,
    }
    return JSONResponse(body, status, media_type=PROBLEM_JSON)


def install(app: FastAPI) -> None:
    """Answer every error with problem+json, and describe it so."""
    _describe_problems(app)

    @app.exception_handler(ServiceError)
    async def _service_error(request: Request, error: ServiceError) -> Response:
        answer = problem(request, error.status, error.title, error.detail, **error.members)
        answer.headers.update(error.headers)
        return answer

    @app.exception_handler(RequestValidationError)
    async def _validation_error(request: Request, error: RequestValidationError) -> Response:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return problem(request, 422, "Bad parameter", f"{found}. See /docs for what is accepted.")

    @app.exception_handler(HTTPException)
    async def _http_error(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed_methods(request))
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=headers)
        title = HTTPStatus(error.status_code).phrase
        details = {
            404: "There is nothing at this address; see /docs for the addresses that exist.",
            405: f"{request.method} is not supported here; see /docs for the methods that are.",
        }
        detail = details.get(error.status_code, str(error.detail))
        answer = problem(request, error.status_code, title, detail)
        answer.headers.update(headers)
        return answer


def unexpected(request: Request) -> Response:
    """The answer to a request that broke. Its exception is in the log, for the client has no use for it."""
    detail = "Something broke on our side; it is logged under the request_id. Try again."
    return problem(request, 500, "Internal error", detail)


def _allowed_methods(request: Request) -> list[str]:
    """The methods of all routes at this address. Starlette names those of one route alone."""
    methods = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.router.routes
        )
    ]
    return sorted([*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])])


def _describe_problems(app: FastAPI) -> None:
    """Put the shape of a problem under its own media type: FastAPI knows one for all answers of a route."""
    describe = app.openapi

    def describe_with_problems() -> dict[str, Any]:
        schema = describe()
        for operations in schema["paths"].values():
            for operation in operations.values():
                for answer in operation["responses"].values():
                    content = answer.get("content", {})
                    if len(content) == 2 and PROBLEM_JSON in content:
                        (shape,) = (part for part in content.values() if part)
                        answer["content"] = {PROBLEM_JSON: shape}
        return schema

    app.openapi = describe_with_problems
