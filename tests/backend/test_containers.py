"""How the backend reads containers, tested against a fake Docker Engine.

`make compose-test` uses a real Docker Engine.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from backend.containers import Containers
from backend.errors import Unavailable
from tests.conftest import eventually

LABEL = "com.docker.compose.project=cifar"


class Engine:
    """A fake Docker Engine with two containers. One is running and used half a core in the last second."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.removed = ""
        app = web.Application()
        app.router.add_get("/version", self.version)
        app.router.add_get("/v1.41/containers/json", self.list)
        app.router.add_get("/v1.41/containers/{id}/json", self.inspect)
        app.router.add_get("/v1.41/containers/{id}/stats", self.stats)
        self.server = TestServer(app)

    async def version(self, _request: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.41"})

    async def list(self, request: web.Request) -> web.Response:
        self.asked.append(request.query["filters"])
        found = [{"Id": "aa"}, {"Id": "bb"}] if LABEL in request.query["filters"] else []
        return web.json_response(found)

    async def inspect(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        if id == self.removed:
            return web.json_response({"message": "No such container"}, status=404)
        running = id == "aa"
        state: dict[str, Any] = {"Status": "running" if running else "exited", "Running": running}
        state["StartedAt"] = "2026-11-24T08:00:00.123456789Z"
        if running:
            state["Health"] = {"Status": "healthy", "Log": [{"Output": "a secret"}]}
        config = {"Env": ["PASSWORD=a secret"], "Labels": {"com.docker.compose.service": "backend"}}
        described = {"Name": f"/cifar-{id}", "State": state, "RestartCount": 2, "Config": config}
        return web.json_response(described)

    async def stats(self, request: web.Request) -> web.Response:
        assert request.query["stream"] == "0"
        if request.match_info["id"] != "aa":
            never = "0001-01-01T00:00:00Z"
            cpu = {"cpu_usage": {"total_usage": 0}}
            stats = {"read": never, "preread": never, "cpu_stats": cpu, "precpu_stats": cpu}
            return web.json_response({**stats, "memory_stats": {}})
        stats = {
            "read": "2026-11-24T08:00:02.000000001Z",
            "preread": "2026-11-24T08:00:01Z",
            "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
            "precpu_stats": {"cpu_usage": {"total_usage": 1_000_000_000}},
            "memory_stats": {"usage": 3_000_000, "stats": {"inactive_file": 1_000_000}},
        }
        return web.json_response(stats)


@pytest.fixture
async def engine() -> AsyncGenerator[Engine]:
    engine = Engine()
    await engine.server.start_server()
    yield engine
    await engine.server.close()


@pytest.fixture
async def containers(engine: Engine) -> AsyncGenerator[Containers]:
    containers = Containers(str(engine.server.make_url("/")).rstrip("/"), LABEL)
    measuring = asyncio.create_task(containers.run())
    yield containers
    measuring.cancel()
    await asyncio.wait([measuring])
    await containers.close()


async def test_each_container_is_reported_with_its_figures(containers: Containers) -> None:
    async def measured() -> Any:
        found = await containers.read()
        return found if found[0].cpu_percent is not None else None

    running, stopped = await eventually(measured)
    assert (running.name, running.service) == ("cifar-aa", "backend")
    assert (running.state, running.health, running.restarts) == ("running", "healthy", 2)
    assert running.started_at is not None
    assert running.cpu_percent == pytest.approx(50, abs=0.1)
    assert running.memory_bytes == 2_000_000
    assert (stopped.state, stopped.cpu_percent, stopped.memory_bytes) == ("exited", None, None)


async def test_no_secret_is_passed_on(containers: Containers) -> None:
    assert "secret" not in str([container.model_dump() for container in await containers.read()])


async def test_only_containers_of_this_deployment_are_requested(
    engine: Engine, containers: Containers
) -> None:
    await containers.read()
    assert set(engine.asked) == {f'{{"label": ["{LABEL}"]}}'}
    other = Containers(str(engine.server.make_url("/")).rstrip("/"), "com.docker.compose.project=other")
    with pytest.raises(Unavailable, match="no container with the label"):
        await other.read()
    await other.close()


async def test_a_container_that_is_removed_after_it_was_listed_is_left_out(
    engine: Engine, containers: Containers
) -> None:
    engine.removed = "bb"
    assert [container.name for container in await containers.read()] == ["cifar-aa"]


async def test_an_unavailable_engine_gives_a_reason() -> None:
    away = Containers("http://127.0.0.1:1", LABEL)
    with pytest.raises(Unavailable, match="does not answer"):
        await away.read()
    await away.close()
    with pytest.raises(Unavailable, match="without Docker"):
        await Containers("", LABEL).read()
