"""The HTTP API, a module for each part: predict, history, streams, trainings, models, probes, metrics."""

from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError, model_validator
from starlette.types import Receive, Scope, Send

from backend.broker import Broker
from backend.database import Database
from backend.decoders import Decoders
from backend.errors import PROBLEM_JSON, BadParameter, RequestTooLarge
from backend.event_log import EventLog
from backend.events import Changes
from backend.health import Checks
from backend.history import History
from backend.metrics import Metrics
from backend.models import Models
from backend.predictions import Predictions
from backend.relay import Relay
from backend.schemas import Problem
from backend.settings import Settings
from backend.trainings import Trainings
from backend.uploads import Uploading

MAX_BODY_BYTES = 4096
Body = TypeVar("Body", bound=BaseModel)


class PlainRoute(APIRoute):
    """A route that FastAPI documents, and whose function gets nothing but the request.

    Solving dependencies and the exit stacks around them took 5 to 19% of the backend's CPU time for an
    upload (two noisy runs). An error that the function raises is answered as in every other route.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in self.methods:
            await super().handle(scope, receive, send)  # answers 405
            return
        answer = await self.endpoint(Request(scope, receive, send))
        await answer(scope, receive, send)


class QueryParameters(BaseModel):
    """Base of what a query may hold. An empty value, as in `?label=`, is the same as none."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if value != ""}


@dataclass(frozen=True)
class Services:
    """What the application factory built, for the routes to use."""

    settings: Settings
    database: Database
    history: History
    predictions: Predictions
    trainings: Trainings
    event_log: EventLog
    models: Models
    broker: Broker
    relay: Relay
    changes: Changes
    checks: Checks
    metrics: Metrics
    decoders: Decoders
    uploading: Uploading


def services(request: Request) -> Services:
    """Each route calls it: solving it as a dependency took 7% of the backend's time for an upload."""
    return request.app.state.services


# Said here, for Python's own phrases changed between 3.11 and 3.13.
MEANINGS = {
    404: "There is no such prediction, training, model or picture.",
    409: "Not as things stand; `detail` says why.",
    413: "More bytes, pixels or files than are taken.",
    415: "Not an image of a supported format.",
    422: "A value or a file that cannot be used.",
    429: "Too many of them are waiting; `Retry-After` says when to try again.",
    503: "The database is away; `Retry-After` says when to try again.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's entries for the errors that a call may answer."""
    return {
        status: {"model": Problem, "description": MEANINGS[status], "content": {PROBLEM_JSON: {}}}
        for status in statuses
    }


async def read_body(request: Request, shape: type[Body]) -> Body:
    """A JSON body under a cap, checked; an empty one is `{}`. Raises RequestTooLarge, BadParameter.

    Read here, since FastAPI goes by the Content-Type, and curl -d names another.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            detail = f"The body may have {MAX_BODY_BYTES:,} bytes; see /docs for what it may say."
            raise RequestTooLarge(detail)
    try:
        return shape.model_validate_json(body.strip() or b"{}")
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
        raise BadParameter(f"{'; '.join(found)}. See /docs for what is accepted.") from error


def describe_body(shape: type[BaseModel], description: str, *, required: bool) -> dict[str, Any]:
    """OpenAPI's entry for what `read_body` reads."""
    content = {"application/json": {"schema": shape.model_json_schema()}}
    return {"requestBody": {"description": description, "required": required, "content": content}}


def as_json(content: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(content.model_dump_json(), status, headers, "application/json")
