"""Health, for people and orchestrators."""

from fastapi import APIRouter, Request, Response

from backend.errors import DatabaseAway
from backend.openapi import describe_problems
from backend.schemas.health import Health
from backend.services import get_services

router = APIRouter(prefix="/health", tags=["health"])


@router.get(
    "",
    summary="Read the health report",
    responses={503: {"model": Health, "description": "Predictions cannot be served."}},
)
async def read_health(request: Request, response: Response) -> Health:
    report = await get_services(request).checks.report()
    response.status_code = 503 if report.status == "down" else 200
    response.headers["Cache-Control"] = "no-store"
    return report


@router.get("/live", summary="Check that the process answers")
async def read_live() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/ready", summary="Check that uploads can be stored", responses=describe_problems(503))
async def read_ready(request: Request) -> dict[str, str]:
    database = await get_services(request).checks.check_database()
    if database.status != "ok":
        raise DatabaseAway(f"The service cannot reach its database ({database.detail}). Try again shortly.")
    return {"status": "ok"}
