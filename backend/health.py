"""What works right now, each part asked at once and given less than a second."""

import asyncio
import time

from backend.broker import Broker, BrokerAway
from backend.errors import DatabaseAway
from backend.predictions import PING, WORKERS, Predictions
from backend.schemas import (
    BrokerHealth,
    Components,
    DatabaseHealth,
    Health,
    InferenceHealth,
    Worker,
)

DEADLINE_SECONDS = 0.8


async def check(predictions: Predictions, broker: Broker) -> Health:
    """Ask every part. Predictions can be served when all three work."""
    database, queue, inference = await asyncio.gather(
        check_database(predictions), check_broker(broker), check_inference(predictions)
    )
    statuses = {database.status, queue.status, inference.status}
    status = "down" if "down" in statuses else "degraded" if "degraded" in statuses else "ok"
    return Health(status=status, components=Components(database=database, broker=queue, inference=inference))


async def check_database(predictions: Predictions) -> DatabaseHealth:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await predictions.fetch(PING)
    except (DatabaseAway, TimeoutError) as error:
        return DatabaseHealth(status="down", latency_ms=None, detail=_reason(error))
    return DatabaseHealth(status="ok", latency_ms=round((time.perf_counter() - started) * 1000, 2))


async def check_broker(broker: Broker) -> BrokerHealth:
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            queue = await broker.inspect()
    except (BrokerAway, TimeoutError) as error:
        return BrokerHealth(status="down", queue_depth=None, consumers=None, detail=_reason(error))
    return BrokerHealth(status="ok", queue_depth=queue.depth, consumers=queue.consumers)


async def check_inference(predictions: Predictions) -> InferenceHealth:
    """Workers refresh a row of their own every five seconds; fifteen without make one silent."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            rows = await predictions.fetch(WORKERS)
    except (DatabaseAway, TimeoutError) as error:
        return _no_workers(f"unknown: {_reason(error)}")
    workers = [
        Worker(
            name=row.name,
            model=row.model,
            device=row.device,
            last_seen=row.last_seen,
            status="silent" if row.silent else "ok",
        )
        for row in rows
    ]
    alive = [worker for worker in workers if worker.status == "ok"]
    if not alive:
        answer = _no_workers("no worker is alive; uploads are stored and will be classified when one is")
        return answer.model_copy(update={"workers": workers})
    silent = len(workers) - len(alive)
    return InferenceHealth(
        status="degraded" if silent else "ok",
        model=max(worker.model for worker in alive),
        device=alive[0].device,
        last_seen=alive[0].last_seen,
        workers=workers,
        detail=f"{silent} of {len(workers)} workers went silent without saying goodbye" if silent else None,
    )


def _no_workers(detail: str) -> InferenceHealth:
    return InferenceHealth(status="down", model=None, device=None, last_seen=None, workers=[], detail=detail)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {DEADLINE_SECONDS} s"
    return str(error)
