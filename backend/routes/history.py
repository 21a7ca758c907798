"""The history: pages, the whole as CSV, single predictions, what the model saw of them and people say."""

import logging
import re
from datetime import UTC, datetime
from io import BytesIO
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from PIL import Image
from pydantic import BeforeValidator, Field

from backend.filenames import as_seen
from backend.header_fields import choose_media_type
from backend.history import time_bound
from backend.routes import QueryParameters, as_json, describe_body, problems, read_body, services
from backend.schemas import Status
from backend.schemas.predictions import Feedback, Prediction, PredictionPage
from backend.spreadsheet import MEDIA_TYPE
from images.fit import INPUT_SIZE

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/predictions", tags=["predictions"])


def _restore_plus(text: Any) -> Any:
    """`10:00:00 02:00` is an offset whose `+` was not encoded: in a query it means a space."""
    return re.sub(r"(:\d\d(?:\.\d+)?) (\d\d:?\d\d)$", r"\1+\2", text) if isinstance(text, str) else text


Moment = Annotated[datetime, BeforeValidator(_restore_plus)]


class Filters(QueryParameters):
    """The history's filters; all that are given must hold."""

    status: Status | None = None
    label: str | None = Field(None, max_length=200, description="The predicted label.")
    min_confidence: float | None = Field(None, ge=0, le=1)
    from_: Moment | None = Field(None, alias="from", description="Accepted at or after.")
    to: Moment | None = Field(None, description="Accepted before.")
    q: str | None = Field(None, max_length=200, description="Part of the file name.")

    def parameters(self) -> dict[str, Any]:
        """Those that are set, by the names that the history's SQL has for them."""
        given = {
            "status": self.status,
            "label": self.label,
            "min_confidence": self.min_confidence,
            "from": self.from_ and time_bound(_as_utc(self.from_)),
            "to": self.to and time_bound(_as_utc(self.to)),
            "q": self.q and "%" + re.sub(r"([%_\\])", r"\\\1", as_seen(self.q)) + "%",
        }
        return {name: value for name, value in given.items() if value is not None}


class HistoryQuery(Filters):
    """The filters, and which page of what they let through, in which format."""

    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, description="`next` or `previous` of another page.")
    format: Literal["json", "csv"] | None = Field(None, description="Else `Accept` decides.")


@router.get(
    "",
    summary="The history, newest first",
    response_model=PredictionPage,
    responses={200: {"content": {"text/csv": {}}}, **problems(422, 503)},
)
async def list_predictions(request: Request, query: Annotated[HistoryQuery, Query()]) -> Response:
    """A page as JSON, or as CSV all that the filters let through: `limit` and `cursor` are for pages.

    A search that takes longer than five seconds is answered 503. One for at least three letters or digits in
    a row takes milliseconds, whatever the size of the history.
    """
    history = services(request).history
    accepted = choose_media_type(request.headers.getlist("accept"), ("application/json", "text/csv"))
    if query.format == "csv" or (query.format is None and accepted == "text/csv"):
        pieces = await history.export(query.parameters())
        headers = {"Content-Disposition": 'attachment; filename="predictions.csv"', "Vary": "Accept"}
        return StreamingResponse(pieces, headers=headers, media_type=MEDIA_TYPE)
    page = await history.read_page(query.limit, query.cursor, query.parameters())
    content = PredictionPage(results=page.rows, next=page.next, previous=page.previous)
    return as_json(content, headers={"Vary": "Accept"})


@router.get(
    "/{id}",
    summary="One prediction",
    response_model=Prediction,
    responses=problems(404, 422, 503),
)
async def read_prediction(id: UUID, request: Request) -> Response:
    prediction, _ = await services(request).predictions.read(id)
    return as_json(prediction)


@router.delete(
    "/{id}",
    summary="Remove one prediction",
    status_code=204,
    response_class=Response,
    responses=problems(404, 422, 503),
)
async def delete_prediction(id: UUID, request: Request) -> Response:
    """The row goes, and its image with it; one that has not ended is not classified any more."""
    await services(request).predictions.delete(id)
    logger.info("prediction deleted", extra={"prediction_id": str(id)})
    return Response(status_code=204)


@router.post(
    "/{id}/cancel",
    summary="Withdraw one prediction",
    response_model=Prediction,
    responses=problems(404, 409, 422, 503),
)
async def cancel_prediction(id: UUID, request: Request) -> Response:
    """It is canceled at once, and what a worker makes of it is dropped. Doing it twice does no harm."""
    prediction = await services(request).predictions.cancel(id)
    logger.info("prediction canceled", extra={"prediction_id": str(id)})
    return as_json(prediction)


@router.put(
    "/{id}/feedback",
    summary="Say which label is right",
    response_model=Prediction,
    responses=problems(404, 413, 422, 503),
    openapi_extra=describe_body(Feedback, "The label, of the model's classes or not.", required=True),
)
async def set_feedback(id: UUID, request: Request) -> Response:
    feedback = await read_body(request, Feedback)
    prediction = await services(request).predictions.set_feedback(id, feedback.label)
    return as_json(prediction)


@router.get(
    "/{id}/image",
    summary="What the model saw",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **problems(404, 422, 503)},
)
async def read_image(id: UUID, request: Request) -> Response:
    """The 32 x 32 pixels after cropping and scaling, as PNG."""
    pixels = await services(request).predictions.read_pixels(id)
    png = BytesIO()
    Image.frombytes("RGB", (INPUT_SIZE, INPUT_SIZE), pixels).save(png, "PNG")
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(png.getvalue(), headers=headers, media_type="image/png")


def _as_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
