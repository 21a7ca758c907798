"""`GET /metrics` for Prometheus. The proxy does not pass it on."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from backend.services import get_services

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def read_metrics(request: Request) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    services = get_services(request)
    gpus, _ = await services.checks.list_gpus()
    services.metrics.set_gpus(gpus)
    return Response(encode(services.metrics.registry), media_type=content_type)
