"""Models: list, read and activate models, and read their pictures."""

import hashlib
import logging
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response

from backend.openapi import describe_problems
from backend.pictures import NAMES
from backend.schemas.models import ModelDetail, ModelList
from backend.services import get_services

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/models", tags=["models"])


@router.get("", summary="List models, newest first", responses=describe_problems(503))
async def list_models(request: Request) -> ModelList:
    """Lists every version that an inference worker has found, including refused ones."""
    return ModelList(results=await get_services(request).models.read_all())


@router.get("/{version}", summary="Read one model with its card", responses=describe_problems(404, 422, 503))
async def read_model(version: str, request: Request) -> ModelDetail:
    return await get_services(request).models.read(version)


@router.post(
    "/{version}/activate", summary="Activate a model", responses=describe_problems(404, 409, 422, 503)
)
async def activate_model(version: str, request: Request) -> ModelDetail:
    """Workers load the model while they serve the current one, and swap them between two batches.

    `served_at` is the latest time at which a worker began to serve this model.
    """
    model = await get_services(request).models.activate(version)
    logger.info("model activated", extra={"model": version})
    return model


@router.get(
    "/{version}/pictures/{name}",
    summary="Read a picture of a model",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}},
        304: {"description": "The picture is the one that `If-None-Match` names."},
        **describe_problems(404, 422, 503),
    },
)
async def read_model_picture(
    version: str,
    name: Annotated[str, Path(description=f"{', '.join(NAMES[:-1])} or {NAMES[-1]}")],
    request: Request,
    if_none_match: Annotated[list[str] | None, Header()] = None,
) -> Response:
    """Returns a PNG: learning curve, confusion matrix, reliability of the confidence, or mistakes."""
    content = await get_services(request).models.read_picture(version, name)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "Cache-Control": "private, max-age=31536000, immutable",
        "ETag": tag,
        "X-Content-Type-Options": "nosniff",
    }
    if any(tag in line or line.strip() == "*" for line in if_none_match or []):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="image/png")
