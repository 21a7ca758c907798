"""The application factory: the one place that builds connections and puts the service together."""

import asyncio
import re
import signal
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from backend import errors, logs
from backend.broker import Broker
from backend.containers import Containers
from backend.events import Changes
from backend.gpus import Gpus
from backend.health import Checks
from backend.metrics import Metrics
from backend.predictions import Predictions
from backend.relay import Relay
from backend.routes import Services, history, metrics, predict, probes, streams
from backend.settings import Settings
from backend.workers import Workers

DESCRIPTION = """Classifies images. Upload with `POST /api/predict`; follow the prediction live at its
`events`; every accepted image and its outcome is kept in the history."""
DECODER_THREADS = 2
SECRETS = Path("/run/secrets")  # where Docker puts them, a file for each
PREFIX = "/api"


def create_app() -> FastAPI:
    """The application, its settings from the environment and, in a container, from secret files.

    Run: uvicorn --factory backend.main:create_app
    """
    logs.configure()
    return build_app(Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None))  # pyright: ignore


def build_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with build_services(settings) as services:
            app.state.services = services
            _end_streams_at_shutdown(services.changes)
            yield

    app = FastAPI(
        title="Image classification",
        version="0.1.0",
        description=DESCRIPTION,
        docs_url=None,  # the proxy serves /docs, with assets of our own
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: _operation_id(route),
    )
    for part in (predict, history, streams, probes):
        app.include_router(part.router, prefix=PREFIX)
    app.include_router(metrics.router)
    app.add_middleware(Observer)
    errors.install(app)
    _describe_problems(app)

    @app.exception_handler(streams.NothingNew)
    async def _nothing_new(_request: Request, _error: streams.NothingNew) -> Response:
        return Response(status_code=204)

    return app


@asynccontextmanager
async def build_services(settings: Settings) -> AsyncGenerator[Services]:
    """Connect to everything; disconnect in the reverse order."""
    database_url = settings.database_url.get_secret_value()
    engine = create_async_engine(
        make_url(database_url).set(drivername="postgresql+asyncpg"),
        isolation_level="AUTOCOMMIT",  # every statement stands alone
        pool_size=settings.database_connections,
        max_overflow=0,
        pool_timeout=5,
        pool_use_lifo=True,
        connect_args={
            "timeout": 5,
            "command_timeout": 10,
            "server_settings": {"application_name": "backend"},
        },
    )
    predictions = Predictions(engine)
    workers = Workers()
    broker = Broker(settings.broker_url.get_secret_value(), workers.hear)
    relay = Relay(predictions, broker)
    changes = Changes(predictions, database_url)
    containers = Containers(settings.docker_url, settings.docker_label)
    gpus = Gpus()
    checks = Checks(predictions, broker, workers, containers, gpus)
    figures = Metrics(predictions, relay, changes)
    decoders = ThreadPoolExecutor(DECODER_THREADS, "decoder")
    await broker.open()
    relay.start()
    changes.start()
    containers.start()
    try:
        yield Services(settings, predictions, broker, relay, changes, checks, figures, decoders)
    finally:
        checks.stop()
        await changes.stop()
        await relay.stop()
        await broker.close()
        await containers.stop()
        gpus.close()
        decoders.shutdown()
        await engine.dispose()


class Observer:
    """Give every request an id: the client's own if it is harmless, else a new one. Count its answer.

    One class for both, and no Starlette helper around it: every layer is paid for by every request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        given = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"x-request-id"), "")
        request_id = given if re.fullmatch(r"[\w.-]{1,64}", given, re.ASCII) else uuid7().hex
        scope.setdefault("state", {})["request_id"] = request_id
        logs.request_id.set(request_id)
        answered = False

        def count(status: int) -> None:
            nonlocal answered
            answered = True
            seconds = time.perf_counter() - started
            route = "unmatched"
            if "route" in scope:  # whose path is its router's, without the prefix of the application
                route = (PREFIX if scope["path"].startswith(PREFIX) else "") + scope["route"].path
            scope["app"].state.services.metrics.count_request(route, scope["method"], status, seconds)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-request-id", request_id.encode()))
                count(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            if not answered:
                count(500)  # the answer comes from a layer above
            raise


def _describe_problems(app: FastAPI) -> None:
    """Put the shape of a problem under its own media type: FastAPI knows one for all answers of a route."""
    describe = app.openapi

    def describe_with_problems() -> dict[str, Any]:
        schema = describe()
        for operations in schema["paths"].values():
            for operation in operations.values():
                for answer in operation["responses"].values():
                    content = answer.get("content", {})
                    if len(content) == 2 and errors.PROBLEM_JSON in content:
                        (shape,) = (part for part in content.values() if part)
                        answer["content"] = {errors.PROBLEM_JSON: shape}
        return schema

    app.openapi = describe_with_problems


def _operation_id(route: APIRoute) -> str:
    return route.name


def _end_streams_at_shutdown(changes: Changes) -> None:
    """End the event streams when a signal comes: the server stops only after its last response."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)

        def end(number: int, frame: FrameType | None, previous: object = previous) -> None:
            loop.call_soon_threadsafe(changes.close)
            if callable(previous):
                previous(number, frame)

        signal.signal(number, end)
