"""Health, for people and for orchestrators."""

from fastapi import APIRouter, Request, Response

from backend.errors import DatabaseAway
from backend.routes import as_json, problems, services
from backend.schemas.health import Health

router = APIRouter(prefix="/health", tags=["health"])


@router.get(
    "",
    summary="What works right now",
    response_model=Health,
    responses={503: {"model": Health, "description": "Predictions cannot be served."}},
)
async def read_health(request: Request) -> Response:
    report = await services(request).checks.report()
    return as_json(report, 503 if report.status == "down" else 200, {"Cache-Control": "no-store"})


@router.get("/live", summary="The process answers")
async def read_live() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/ready", summary="Uploads can be stored", responses=problems(503))
async def read_ready(request: Request) -> dict[str, str]:
    database = await services(request).checks.check_database()
    if database.status != "ok":
        raise DatabaseAway(f"The service cannot reach its database ({database.detail}); try again shortly.")
    return {"status": "ok"}
