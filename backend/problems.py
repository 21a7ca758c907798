"""Answers to requests that fail: problem+json (RFC 9457), and a line in the log for each."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from backend.errors import Refusal, ServiceError

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"


def problem(request: Request, status: int, title: str, detail: str, **members: Any) -> JSONResponse:
    """An RFC 9457 answer, and a line in the log."""
    level, message = (
        (logging.INFO, "request refused") if status < 500 else (logging.WARNING, "request failed")
    )
    extra = {"title": title, "status": status, "path": request.scope["path"]}
    logger.log(level, message, extra=extra)
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
    """Answer expected errors with problem+json. `backend/middleware.py` answers unexpected ones."""

    @app.exception_handler(ServiceError)
    async def _service_error(request: Request, error: ServiceError) -> Response:
        answer = problem(request, error.refusal.status, error.refusal.title, error.detail, **error.members)
        if error.refusal.retry_after is not None:
            answer.headers["Retry-After"] = str(error.refusal.retry_after)
        return answer

    @app.exception_handler(RequestValidationError)
    async def _validation_error(request: Request, error: RequestValidationError) -> Response:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        title = Refusal.BAD_PARAMETER.title
        return problem(request, 422, title, f"{found}. See /docs for what is accepted.")

    @app.exception_handler(HTTPException)
    async def _http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 204:  # from `check_unread`: the reader has read the stream to its end
            return Response(status_code=204)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed_methods(request))
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=headers)
        title = HTTPStatus(error.status_code).phrase
        details = {
            404: "This address does not exist. See /docs for all addresses.",
            405: f"This address does not support {request.method}. See /docs for the supported methods.",
        }
        detail = details.get(error.status_code, str(error.detail))
        answer = problem(request, error.status_code, title, detail)
        answer.headers.update(headers)
        return answer


def unexpected(request: Request) -> Response:
    """The answer to a request that raised an unexpected exception. Only the log shows the exception."""
    detail = "Internal error. The log entry has this request_id. Try again."
    return problem(request, 500, "Internal error", detail)


def _allowed_methods(request: Request) -> list[str]:
    """The methods of all routes with this address. Starlette's `Allow` has those of one route only."""
    methods = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.router.routes
        )
    ]
    return sorted([*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])])
