"""The history: pages, single predictions, and what the model saw of them."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from PIL import Image

from backend.history import read_page, time_bound
from backend.routes import as_json, problems, services
from backend.schemas import Status
from backend.schemas.predictions import Prediction, PredictionPage
from backend.uploads import INPUT_SIZE

router = APIRouter(prefix="/predictions", tags=["predictions"])


@dataclass(frozen=True)
class Filters:
    """The history's filters, as query parameters; all that are given must hold."""

    status: Annotated[Status | None, Query()] = None
    label: Annotated[str | None, Query(max_length=200, description="The predicted label.")] = None
    min_confidence: Annotated[float | None, Query(ge=0, le=1)] = None
    from_: Annotated[datetime | None, Query(alias="from", description="Accepted at or after.")] = None
    to: Annotated[datetime | None, Query(description="Accepted before.")] = None
    q: Annotated[str | None, Query(max_length=200, description="Part of the file name.")] = None

    def parameters(self) -> dict[str, Any]:
        """Those that are set, by the names that the history's SQL has for them."""
        given = {
            "status": self.status,
            "label": self.label,
            "min_confidence": self.min_confidence,
            "from": self.from_ and time_bound(_as_utc(self.from_)),
            "to": self.to and time_bound(_as_utc(self.to)),
            "q": self.q and "%" + re.sub(r"([%_\\])", r"\\\1", self.q) + "%",
        }
        return {name: value for name, value in given.items() if value is not None}


@router.get(
    "",
    summary="The history, newest first",
    response_model=PredictionPage,
    responses=problems(422, 503),
)
async def list_predictions(
    request: Request,
    filters: Annotated[Filters, Depends()],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(description="`next` or `previous` of another page.")] = None,
) -> Response:
    page = await read_page(services(request).database, limit, cursor, filters.parameters())
    return as_json(PredictionPage(results=page.rows, next=page.next, previous=page.previous))


@router.get(
    "/{id}",
    summary="One prediction",
    response_model=Prediction,
    responses=problems(404, 422, 503),
)
async def read_prediction(id: UUID, request: Request) -> Response:
    prediction, _ = await services(request).predictions.read(id)
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
