"""JSON bodies of requests, read under a limit and checked."""

from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from backend.errors import Refusal, ServiceError

MAX_BODY_BYTES = 4096
Body = TypeVar("Body", bound=BaseModel)


async def read_json(request: Request, shape: type[Body]) -> Body:
    """The checked body of a request; an empty body is read as `{}`.

    FastAPI would read JSON only if the Content-Type is JSON, but `curl -d` sends another Content-Type.
    Raises REQUEST_TOO_LARGE, RequestValidationError.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            detail = f"The body can have at most {MAX_BODY_BYTES:,} bytes. See /docs for its members."
            raise ServiceError(Refusal.REQUEST_TOO_LARGE, detail)
    try:
        return shape.model_validate_json(body.strip() or b"{}")
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
