"""Task messages: which ones the worker accepts, what they ask for, and what Flower shows at their end."""

from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from celery.exceptions import InvalidTaskError
from celery.worker.request import Request

from inference.collector import Group
from inference.errors import ClassificationError
from inference.outcomes import SKIPPED, Outcome

INTERACTIVE, BULK = "inference", "inference.bulk"
"""The queues: uploads with one file, and uploads with several."""
MAX_PREDICTIONS = 1000
"""The most ids that one message may have."""


def check(arguments: list[Any]) -> None:
    """Raises InvalidTaskError if the arguments are not one list of 1 to 1,000 items."""
    if len(arguments) != 1 or not isinstance(arguments[0], list):
        raise InvalidTaskError("the arguments are not one list of prediction ids")
    if not 1 <= len(arguments[0]) <= MAX_PREDICTIONS:
        raise InvalidTaskError(f"{len(arguments[0])} predictions in a message, not 1 to {MAX_PREDICTIONS}")


def parse(request: Request) -> Group:
    """The predictions that a message asks for. Raises ValueError if an item of its list is not a UUID."""
    try:
        ids = [UUID(text) for text in request.args[0]]
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a list of prediction ids: {request.args!r:.200}") from error
    given = request.request_dict.get("request_ids")
    request_ids = given if isinstance(given, list) and len(given) == len(ids) else [None] * len(ids)
    return Group(
        request,
        dict(zip(ids, request_ids, strict=True)),
        is_bulk=request.delivery_info["routing_key"] == BULK,
        is_redelivered=bool(request.delivery_info["redelivered"]),
    )


def summarize(outcomes: Mapping[UUID, Outcome | None]) -> str | ClassificationError:
    """What Flower shows for a message with these outcomes. None: the prediction was skipped."""
    found = list(outcomes.values())
    counts = Counter(outcome.status if outcome else "skipped" for outcome in found)
    parts = [f"{counts[status]} {status}" for status in ("succeeded", "failed", "skipped") if counts[status]]
    text = str(found[0] or SKIPPED) if len(found) == 1 else f"{len(found)} predictions: {', '.join(parts)}"
    return ClassificationError(text) if counts["failed"] else text
