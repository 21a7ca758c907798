"""Health, for people and for orchestrators."""

from fastapi import APIRouter, Request, Response

from backend import health
from backend.routes import as_json, problems, services
from backend.schemas import Health

router = APIRouter(prefix="/health", tags=["health"])


@router.get(
    "",
    summary="What works right now",
    response_model=Health,
    responses={503: {"model": Health, "description": "Predictions cannot be served."}},
)
async def read_health(request: Request) -> Response:
    serve = services(request)
    report = await health.check(serve.predictions, serve.broker)
    return as_json(report, 503 if report.status == "down" else 200, {"Cache-Control": "no-store"})


@router.get("/live", summary="The process answers")
async def read_live() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/ready", summary="Uploads can be stored", responses=problems(503))
async def read_ready(request: Request) -> dict[str, str]:
    await services(request).predictions.snapshot()
    return {"status": "ok"}
