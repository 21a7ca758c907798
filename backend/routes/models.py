"""The models: what they are worth, which one is served, and their pictures."""

import hashlib
import logging
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response

from backend.pictures import NAMES
from backend.routes import as_json, problems, services
from backend.schemas.models import ModelDetail, ModelList

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/models", tags=["models"])


@router.get(
    "", summary="The models, the latest found first", response_model=ModelList, responses=problems(503)
)
async def list_models(request: Request) -> Response:
    """Every version that an inference worker has found, those that it refuses included."""
    return as_json(ModelList(results=await services(request).models.read_all()))


@router.get(
    "/{version}",
    summary="One model with its card",
    response_model=ModelDetail,
    responses=problems(404, 422, 503),
)
async def read_model(version: str, request: Request) -> Response:
    return as_json(await services(request).models.read(version))


@router.post(
    "/{version}/activate",
    summary="Make a model the one to serve",
    response_model=ModelDetail,
    responses=problems(404, 409, 422, 503),
)
async def activate_model(version: str, request: Request) -> Response:
    """The workers load it beside the one they serve, and swap between two batches.

    `served_at` tells when the first of them has.
    """
    model = await services(request).models.activate(version)
    logger.info("model activated", extra={"model": version})
    return as_json(model)


@router.get(
    "/{version}/pictures/{name}",
    summary="A picture of a model",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}},
        304: {"description": "It is the one that `If-None-Match` names."},
        **problems(404, 422, 503),
    },
)
async def read_model_picture(
    version: str,
    name: Annotated[str, Path(description=f"{', '.join(NAMES[:-1])} or {NAMES[-1]}")],
    request: Request,
    if_none_match: Annotated[list[str] | None, Header()] = None,
) -> Response:
    """PNG: how it learned, what it confuses, how far its confidence can be trusted, what it got wrong."""
    content = await services(request).models.read_picture(version, name)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "Cache-Control": "private, max-age=31536000, immutable",
        "ETag": tag,
        "X-Content-Type-Options": "nosniff",
    }
    if any(tag in line or line.strip() == "*" for line in if_none_match or []):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="image/png")
