"""The containers of this deployment, read from Docker.

A socket proxy allows only four calls of Docker's API (compose.yaml). The answers also hold environment
variables and labels, so only the fields of `Container` are passed on.
"""

import asyncio
import json
import logging
from datetime import datetime

import aiodocker
import aiohttp
from aiodocker.containers import DockerContainer

from backend.errors import Unavailable
from backend.schemas.health import Container

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0  # between two measurements
ENGINE_SECONDS = 5.0  # for one call; the health report waits for a shorter time

FAILURES = (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError)


class Containers:
    """Lists the containers that have a label.

    url: the Docker API; empty if there is none. label: `key=value`, on each container of this deployment.

    Docker needs one to two seconds to measure a container, longer than a health report may take. So the
    containers are measured with pauses of five seconds, and a report holds the latest figures.
    """

    def __init__(self, url: str, label: str) -> None:
        timeout = aiohttp.ClientTimeout(total=ENGINE_SECONDS)
        self._docker = aiodocker.Docker(url, timeout=timeout) if url else None
        self._label = label
        self._figures: dict[str, tuple[float, int]] = {}

    async def run(self) -> None:
        """Measure the containers until this task is canceled."""
        while self._docker is not None:
            try:
                found = await self._find()
                figures = await asyncio.gather(*(_measure(container) for container in found))
                self._figures = {c.id: f for c, f in zip(found, figures, strict=True) if f}
            except (Unavailable, *FAILURES):
                self._figures = {}  # the next report gives the reason
            except Exception:
                self._figures = {}
                logger.exception("measuring the containers failed, trying again")
            await asyncio.sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        if self._docker is not None:
            await self._docker.close()

    async def read(self) -> list[Container]:
        """Every container of this deployment, sorted by name. Raises Unavailable."""
        try:
            found = await self._find()
            described = await asyncio.gather(*(self._read_one(container) for container in found))
        except FAILURES as error:
            raise Unavailable(f"Docker does not answer: {error or type(error).__name__}") from error
        if not found:
            raise Unavailable(f"Docker has no container with the label {self._label}")
        return sorted(filter(None, described), key=lambda container: container.name)

    async def _find(self) -> list[DockerContainer]:
        if self._docker is None:
            raise Unavailable("the services run without Docker (DOCKER_URL is not set)")
        filters = json.dumps({"label": [self._label]})
        return await self._docker.containers.list(all=1, filters=filters)

    async def _read_one(self, container: DockerContainer) -> Container | None:
        """One container; None if it was removed in the meantime."""
        try:
            described = await container.show()
        except aiodocker.DockerError as error:
            if error.status == 404:
                return None
            raise
        state, labels = described["State"], described["Config"]["Labels"]
        cpu, memory = self._figures.get(container.id, (None, None)) if state["Running"] else (None, None)
        return Container(
            name=described["Name"].lstrip("/"),
            service=labels.get("com.docker.swarm.service.name") or labels.get("com.docker.compose.service"),
            state=state["Status"],
            health=state.get("Health", {}).get("Status"),
            started_at=state["StartedAt"] if state["Running"] else None,
            restarts=described["RestartCount"],
            cpu_percent=cpu,
            memory_bytes=memory,
        )


async def _measure(container: DockerContainer) -> tuple[float, int] | None:
    """CPU use over the last second (100 is one core), and memory in bytes as in `docker stats`; None if
    Docker gives no figures."""
    try:
        (stats,) = await container.stats(stream=False, timeout=ENGINE_SECONDS)  # the default is no timeout
        period = datetime.fromisoformat(stats["read"]) - datetime.fromisoformat(stats["preread"])
        before, now = (stats[name]["cpu_usage"]["total_usage"] for name in ("precpu_stats", "cpu_stats"))
        memory = stats["memory_stats"]
        details = memory.get("stats", {})
        cache = details.get("inactive_file", details.get("total_inactive_file", 0))
        return round((now - before) / 1e7 / period.total_seconds(), 2), memory["usage"] - cache
    except (*FAILURES, KeyError, ValueError, ZeroDivisionError):  # a container that stopped has no figures
        return None
