"""Entries of the API's description that FastAPI does not generate."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from backend.problems import PROBLEM_JSON
from backend.schemas import Problem
from backend.sse import MEDIA_TYPE as EVENT_STREAM

# Fixed texts, because the phrases of Python's HTTPStatus changed between 3.11 and 3.13.
MEANINGS = {
    404: "There is no such prediction, training, model or picture.",
    409: "The current state does not allow this. `detail` gives the reason.",
    413: "The request exceeds a limit on bytes, pixels or files.",
    415: "Not an image of a supported format and variant.",
    422: "A value or a file that cannot be used.",
    429: "Too many requests are waiting. Retry after `Retry-After` seconds.",
    503: "Temporarily unavailable. `detail` gives the reason. Retry after `Retry-After` seconds.",
}


def describe_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer, for its `responses`."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": MEANINGS[status], "content": content} for status in statuses}


def describe_body(shape: type[BaseModel], description: str, *, required: bool) -> dict[str, Any]:
    """The JSON body that `read_json` reads, for a route's `openapi_extra`."""
    content = {"application/json": {"schema": shape.model_json_schema()}}
    return {"requestBody": {"description": description, "required": required, "content": content}}


def describe_stream(description: str) -> dict[str, Any]:
    """A stream of server-sent events."""
    members = {name: {"type": "string"} for name in ("event", "id", "data")}
    event = {"type": "object", "properties": members, "required": list(members)}
    return {"description": description, "content": {EVENT_STREAM: {"itemSchema": event}}}


def add_problem(app: FastAPI) -> None:
    """Add the schema `Problem`. FastAPI itself would declare it as application/json, not problem+json."""
    describe = app.openapi

    def describe_with_problem() -> dict[str, Any]:
        description = describe()
        description["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        return description

    app.openapi = describe_with_problem
