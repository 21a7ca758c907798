"""JSON bodies: those of requests, read under a limit and checked, and those of answers."""

from typing import TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError

from backend.errors import BadParameter, RequestTooLarge

MAX_BODY_BYTES = 4096
Body = TypeVar("Body", bound=BaseModel)


async def read_json(request: Request, shape: type[Body]) -> Body:
    """The checked body of a request; an empty body is read as `{}`. Raises RequestTooLarge, BadParameter.

    FastAPI would read JSON only if the Content-Type says so, and `curl -d` sends another one.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestTooLarge(f"The body may have {MAX_BODY_BYTES:,} bytes. See /docs for its members.")
    try:
        return shape.model_validate_json(body.strip() or b"{}")
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
        raise BadParameter(f"{'; '.join(found)}. See /docs for what is accepted.") from error


def as_json(content: BaseModel | str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer with a model, or with JSON that is encoded already."""
    text = content if isinstance(content, str) else content.model_dump_json()
    return Response(text, status, headers, "application/json")
