"""Health, for people and orchestrators."""

from fastapi import APIRouter, Request, Response

from backend.errors import DatabaseAway
from backend.json_bodies import as_json
from backend.openapi import describe_problems
from backend.schemas.health import Health
from backend.services import services

router = APIRouter(prefix="/health", tags=["health"])


@router.get(
    "",
    summary="Read the health report",
    response_model=Health,
    responses={503: {"model": Health, "description": "Predictions cannot be served."}},
)
async def read_health(request: Request) -> Response:
    report = await services(request).checks.report()
    return as_json(report, 503 if report.status == "down" else 200, {"Cache-Control": "no-store"})


@router.get("/live", summary="Check that the process answers")
async def read_live() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/ready", summary="Check that uploads can be stored", responses=describe_problems(503))
async def read_ready(request: Request) -> dict[str, str]:
    database = await services(request).checks.check_database()
    if database.status != "ok":
        raise DatabaseAway(f"The service cannot reach its database ({database.detail}). Try again shortly.")
    return {"status": "ok"}
