"""The health report: asks database, broker, Docker and GPUs concurrently, each with a deadline."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from backend.broker import Broker
from backend.containers import Containers
from backend.database import PING, Pool
from backend.errors import DatabaseAway, Unavailable
from backend.events import EventFeed
from backend.gpus import Gpus
from backend.messages import BULK, INFERENCE
from backend.relay import Relay
from backend.schemas.health import (
    BrokerHealth,
    Components,
    DatabaseHealth,
    Gpu,
    Health,
    InferenceHealth,
    TrainingHealth,
)
from backend.workers import Workers

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 0.7
FRESH_SECONDS = 1.0
SLICES = 14  # the deadline is cut into this many slices: see `Question._wait`

T = TypeVar("T")


class Question(Generic[T]):
    """A question to one part of the system. At most one call runs at a time.

    A call to a part that hangs (a stopped process, a lost network) may not even be cancelable. So a late call
    is neither canceled nor repeated, and callers get Unavailable until it has ended.

    Time that this process spends on other work hardly counts towards the deadline: see `_wait`.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._asking: asyncio.Future[T] | None = None
        self._since = 0.0
        self._passed = 0  # slices of the deadline that have passed

    async def answer(self) -> tuple[T, float]:
        """The answer and its time in ms. Raises Unavailable if the part fails or the deadline passes."""
        if self._asking is None or self._asking.done():
            self._since = time.monotonic()
            self._asking = asyncio.ensure_future(self._ask())
            # Read the error of a late call. Otherwise asyncio logs that nothing has read it.
            self._asking.add_done_callback(lambda late: late.cancelled() or late.exception())
            self._passed = 0
        asking = self._asking
        await self._wait(asking)
        seconds = time.monotonic() - self._since
        if not asking.done():
            raise Unavailable(f"no answer for {seconds:.1f} s")
        try:
            return asking.result(), round(seconds * 1000, 2)
        except (DatabaseAway, Unavailable) as error:
            raise Unavailable(str(error)) from error
        except Exception as error:
            logger.exception("a part of the health report failed unexpectedly")
            raise Unavailable(f"unexpected error ({type(error).__name__}); see the log") from error

    async def _wait(self, asking: asyncio.Future[T]) -> None:
        """Wait for the answer, at most DEADLINE_SECONDS. Time in which the event loop is busy hardly counts.

        The deadline has slices of 50 ms. If other work makes a slice longer, it still counts as 50 ms.
        """
        for number in range(self._passed, SLICES):
            if asking.done():
                return
            await asyncio.wait([asking], timeout=DEADLINE_SECONDS / SLICES)
            self._passed = max(self._passed, number + 1)  # several callers may wait at the same time

    def cancel(self) -> None:
        if self._asking is not None:
            self._asking.cancel()


class Checks:
    """Builds the health report. Requests within one second share a report."""

    def __init__(
        self,
        pool: Pool,
        broker: Broker,
        workers: Workers,
        containers: Containers,
        gpus: Gpus,
        events: EventFeed,
        relay: Relay,
    ) -> None:
        self._workers = workers
        self._events = events
        self._relay = relay
        self._database = Question(lambda: pool.fetch(PING))
        self._queues = Question(lambda: asyncio.gather(broker.inspect(INFERENCE), broker.inspect(BULK)))
        self._containers = Question(containers.read)
        self._gpus = Question(gpus.read)
        self._report: asyncio.Task[Health] | None = None
        self._reported_at = 0.0

    async def report(self) -> Health:
        """The health report, at most one second old."""
        if self._report is None or time.monotonic() - self._reported_at > FRESH_SECONDS:
            self._report = asyncio.create_task(self._ask_all())
            self._reported_at = time.monotonic()
        return await asyncio.shield(self._report)

    async def check_database(self) -> DatabaseHealth:
        try:
            _, latency_ms = await self._database.answer()
        except Unavailable as error:
            return DatabaseHealth(status="down", latency_ms=None, listening=False, detail=str(error))
        listening = self._events.listening
        detail = None if listening else "no notifications from the database; live status is up to 5 s late"
        return DatabaseHealth(status="ok", latency_ms=latency_ms, listening=listening, detail=detail)

    async def list_gpus(self) -> tuple[list[Gpu], str | None]:
        """The GPUs, or the reason why there is no list."""
        return await _list(self._gpus)

    def stop(self) -> None:
        for question in (self._database, self._queues, self._containers, self._gpus):
            question.cancel()

    async def _ask_all(self) -> Health:
        database, broker, (containers, no_containers), (gpus, no_gpus) = await asyncio.gather(
            self.check_database(), self._check_broker(), _list(self._containers), _list(self._gpus)
        )
        inference, training = self._check_inference(), self._check_training()
        components = Components(
            database=database,
            broker=broker,
            inference=inference,
            training=training,
            containers=containers,
            containers_unavailable=no_containers,
            gpus=gpus,
            gpus_unavailable=no_gpus,
        )
        needed = {database.status, broker.status, inference.status}
        is_degraded = training.status == "degraded" or any(
            container.state in ("restarting", "dead")
            or (container.state == "running" and container.health == "unhealthy")
            for container in containers
        )
        is_degraded = is_degraded or not database.listening or any(gpu.detail for gpu in gpus)
        status = "down" if "down" in needed else "degraded" if is_degraded or "degraded" in needed else "ok"
        return Health(status=status, components=components)

    async def _check_broker(self) -> BrokerHealth:
        try:
            queues, latency_ms = await self._queues.answer()
        except Unavailable as error:
            return BrokerHealth(
                status="down", latency_ms=None, queue_depth=None, consumers=None, detail=str(error)
            )
        return BrokerHealth(
            status="ok",
            latency_ms=latency_ms,
            queue_depth=sum(queue.depth for queue in queues),
            consumers=min(queue.consumers for queue in queues),
        )

    def _check_inference(self) -> InferenceHealth:
        workers = self._workers.report_inference()
        alive = [worker for worker in workers if worker.status == "ok"]
        detail = next((f"{worker.name}: {worker.detail}" for worker in alive if worker.detail), None)
        if not alive:
            detail = "no worker sends heartbeats; uploads are stored and wait for a worker"
        elif silent := len(workers) - len(alive):
            detail = f"{silent} of {len(workers)} workers are silent"
        return InferenceHealth(
            status="down" if not alive else "degraded" if detail else "ok",
            unfinished=self._relay.unfinished,
            model=max((worker.model for worker in alive), default=None),
            device=alive[0].device if alive else None,
            last_seen=alive[0].last_seen if alive else None,
            workers=workers,
            detail=detail,
        )

    def _check_training(self) -> TrainingHealth:
        workers = self._workers.report_training()
        detail = None
        if not workers:
            detail = "no worker sends heartbeats; trainings wait for a worker"
        elif silent := sum(worker.status == "silent" for worker in workers):
            detail = f"{silent} of {len(workers)} workers are silent"
        return TrainingHealth(
            status="down" if not workers else "degraded" if detail else "ok", workers=workers, detail=detail
        )


async def _list(question: Question[list[T]]) -> tuple[list[T], str | None]:
    """The list, or the reason why there is none."""
    try:
        found, _ = await question.answer()
    except Unavailable as error:
        return [], str(error)
    return found, None
