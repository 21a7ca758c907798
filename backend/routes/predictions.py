"""Predictions: the history as pages and CSV, and single predictions with image and feedback."""

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

from backend.csv_export import MEDIA_TYPE
from backend.filenames import as_seen
from backend.header_fields import choose_media_type
from backend.history import first_id_at
from backend.json_bodies import read_json
from backend.openapi import describe_body, describe_problems
from backend.schemas import QueryParameters, Status
from backend.schemas.predictions import Feedback, Prediction, PredictionPage
from backend.services import get_services
from images.fit import INPUT_SIZE

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/predictions", tags=["predictions"])


def _complete_offset(text: Any) -> Any:
    """Read `10:00:00 02` as `10:00:00+02:00`. In a query an unencoded `+` means a space. PostgreSQL writes an
    offset without minutes, and ISO 8601 allows that.
    """
    found = isinstance(text, str) and re.fullmatch(r"(.*:\d\d(?:\.\d+)?)([ +-]\d\d)(?::?(\d\d))?", text)
    return f"{found[1]}{found[2].replace(' ', '+')}:{found[3] or '00'}" if found else text


Moment = Annotated[datetime, BeforeValidator(_complete_offset)]


class HistoryQuery(QueryParameters):
    """The filters, the page and the format of the history. A prediction must match all filters given."""

    status: Status | None = None
    label: str | None = Field(None, max_length=200, description="The predicted label.")
    min_confidence: float | None = Field(None, ge=0, le=1)
    from_: Moment | None = Field(None, alias="from", description="Accepted at or after this time.")
    to: Moment | None = Field(None, description="Accepted before this time.")
    q: str | None = Field(None, max_length=200, description="A part of the file name.")
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, description="The `next` or `previous` of another page.")
    format: Literal["json", "csv"] | None = Field(None, description="Default: chosen by `Accept`.")

    def filters(self) -> dict[str, Any]:
        """The given filters, as parameters of the SQL."""
        given = {
            "status": self.status,
            "label": self.label,
            "min_confidence": self.min_confidence,
            "from": self.from_ and first_id_at(_as_utc(self.from_)),
            "to": self.to and first_id_at(_as_utc(self.to)),
            "q": self.q and _list_patterns(self.q),
        }
        return {name: value for name, value in given.items() if value is not None}


@router.get(
    "",
    summary="List predictions, newest first",
    response_model=PredictionPage,
    responses={200: {"content": {"text/csv": {}}}, **describe_problems(422, 503)},
)
async def list_predictions(
    request: Request, response: Response, query: Annotated[HistoryQuery, Query()]
) -> PredictionPage | Response:
    """Returns one page as JSON, or all matching predictions as CSV. `limit` and `cursor` apply to JSON only.

    A search that takes longer than five seconds is answered with 503. For CSV the limit is 60 seconds for the
    first 5,000 rows. A search for at least three consecutive letters or digits of a file name takes
    milliseconds, also in a large history.
    """
    history = get_services(request).history
    accepted = choose_media_type(request.headers.getlist("accept"), ("application/json", "text/csv"))
    if query.format == "csv" or (query.format is None and accepted == "text/csv"):
        pieces = await history.export(query.filters())
        headers = {"Content-Disposition": 'attachment; filename="predictions.csv"', "Vary": "Accept"}
        return StreamingResponse(pieces, headers=headers, media_type=MEDIA_TYPE)
    response.headers["Vary"] = "Accept"
    return await history.read_page(query.limit, query.cursor, query.filters())


@router.get("/{id}", summary="Read one prediction", responses=describe_problems(404, 422, 503))
async def read_prediction(id: UUID, request: Request) -> Prediction:
    prediction, _ = await get_services(request).predictions.read(id)
    return prediction


@router.delete(
    "/{id}",
    summary="Delete one prediction",
    status_code=204,
    response_class=Response,
    responses=describe_problems(404, 422, 503),
)
async def delete_prediction(id: UUID, request: Request) -> Response:
    """Deletes the prediction and its image. The outcome of an unfinished prediction is discarded."""
    await get_services(request).predictions.delete(id)
    logger.info("prediction deleted", extra={"prediction_id": str(id)})
    return Response(status_code=204)


@router.post("/{id}/cancel", summary="Cancel one prediction", responses=describe_problems(404, 409, 422, 503))
async def cancel_prediction(id: UUID, request: Request) -> Prediction:
    """Cancels the prediction immediately and discards a later outcome. Repeating the request has no further
    effect.
    """
    prediction = await get_services(request).predictions.cancel(id)
    logger.info("prediction canceled", extra={"prediction_id": str(id)})
    return prediction


@router.put(
    "/{id}/feedback",
    summary="Set the correct label",
    responses=describe_problems(404, 413, 422, 503),
    openapi_extra=describe_body(
        Feedback, "The correct label. It does not have to be a class of the model.", required=True
    ),
)
async def set_feedback(id: UUID, request: Request) -> Prediction:
    feedback = await read_json(request, Feedback)
    return await get_services(request).predictions.set_feedback(id, feedback.label)


@router.get(
    "/{id}/image",
    summary="Read the image as the model sees it",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **describe_problems(404, 422, 503)},
)
async def read_image(id: UUID, request: Request) -> Response:
    """Returns the 32 x 32 pixels after cropping and scaling, as PNG."""
    pixels = await get_services(request).predictions.read_pixels(id)
    png = BytesIO()
    Image.frombytes("RGB", (INPUT_SIZE, INPUT_SIZE), pixels).save(png, "PNG")
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(png.getvalue(), headers=headers, media_type="image/png")


def _list_patterns(text: str) -> list[str]:
    """The patterns of ILIKE for a part of a file name.

    ILIKE compares letter by letter. So a text that is longer in capitals (`straße`), or has the sigma that
    Greek words end with (`ς`), is also searched for in lower case and in upper case.
    """
    cases = [text]
    if text.lower() != text.casefold():
        cases += [text.lower(), text.upper()]
    return ["%" + re.sub(r"([%_\\])", r"\\\1", as_seen(case)) + "%" for case in cases]


def _as_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
