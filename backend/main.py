"""The application factory: the one place that builds connections and puts the service together."""

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute

from backend import errors, logs
from backend.broker import Broker
from backend.containers import Containers
from backend.database import Database, DirectConnection
from backend.decoders import Decoders
from backend.event_log import EventLog
from backend.events import Changes
from backend.gpus import Gpus
from backend.health import Checks
from backend.history import History
from backend.metrics import Metrics
from backend.models import Models
from backend.observer import API, Observer
from backend.pools import ExpensiveReads, build_pools
from backend.predictions import Predictions
from backend.relay import Relay
from backend.retention import Retention
from backend.routes import Services, history, metrics, models, predict, probes, streams, trainings
from backend.settings import Settings
from backend.trainings import Trainings
from backend.uploads import Uploading
from backend.workers import Workers

DESCRIPTION = """Classifies images. Upload with `POST /api/predict`; follow the prediction live at its
`events`; every accepted image and its outcome is kept in the history. Train with `POST /api/trainings`, watch
each epoch at the training's `events`, and serve what it published, or any other of `GET /api/models`."""
SECRETS = Path("/run/secrets")  # where Docker puts them, a file for each


def create_app() -> FastAPI:
    """The application, its settings from the environment and, in a container, from secret files.

    Run: uvicorn --factory backend.main:create_app
    """
    logs.configure()
    app = build_app(Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None))  # pyright: ignore
    # Searching what stays for garbage, and that after each 700 new objects, took a fifth of the CPU time
    # of a prediction. Nearly all objects are freed without it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
    return app


def build_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with build_services(settings) as services:
            app.state.services = services
            _end_at_shutdown(services.changes.close, services.decoders.close)
            yield

    app = FastAPI(
        title="Image classification",
        version="0.1.0",
        description=DESCRIPTION,
        docs_url=None,  # the proxy serves /docs, with assets of our own
        redoc_url=None,
        redirect_slashes=False,  # an address with a slash at its end is the same one: see the observer
        lifespan=lifespan,
        generate_unique_id_function=lambda route: _operation_id(route),
    )
    for part in (predict, history, streams, trainings, models, probes):
        app.include_router(part.router, prefix=API)
    app.include_router(metrics.router)
    app.add_middleware(Observer)
    errors.install(app)

    @app.exception_handler(streams.NothingNew)
    async def _nothing_new(_request: Request, _error: streams.NothingNew) -> Response:
        return Response(status_code=204)

    return app


@asynccontextmanager
async def build_services(settings: Settings) -> AsyncGenerator[Services]:
    """Connect to everything; disconnect in the reverse order."""
    database_url = settings.database_url.get_secret_value()
    pools = build_pools(database_url, settings.database_connections)
    database = Database(pools.main)
    inserting, watching = DirectConnection(database_url), DirectConnection(database_url)
    decoders = Decoders(settings.max_image_pixels, settings.max_decode_seconds)
    predictions, runs = Predictions(database, inserting, decoders.idle), Trainings(database)
    workers = Workers()
    broker = Broker(settings.broker_url.get_secret_value(), workers.hear)
    relay = Relay(predictions, runs, broker)
    changes = Changes(EventLog(watching), database_url)
    containers = Containers(settings.docker_url, settings.docker_label)
    gpus = Gpus()
    checks = Checks(
        Database(pools.health),
        broker,
        workers,
        containers,
        gpus,
        lambda: changes.listening,
        lambda: relay.unfinished,
    )
    uploading = Uploading(settings)
    figures = Metrics(database, relay, changes, uploading)
    retention = Retention(database_url, settings.retention_days)
    await decoders.start()
    await broker.open()
    relay.start()
    changes.start()
    retention.start()
    containers.start()
    try:
        yield Services(
            settings=settings,
            database=database,
            history=History(database, ExpensiveReads(pools.searches), ExpensiveReads(pools.exports)),
            predictions=predictions,
            trainings=runs,
            event_log=EventLog(database),
            models=Models(database, settings.models_path),
            broker=broker,
            relay=relay,
            changes=changes,
            checks=checks,
            metrics=figures,
            decoders=decoders,
            uploading=uploading,
        )
    finally:
        checks.stop()
        await retention.stop()
        await changes.stop()
        await relay.stop()
        await broker.close()
        await containers.stop()
        gpus.close()
        await decoders.stop()
        inserting.close()
        watching.close()
        await pools.close()


def _operation_id(route: APIRoute) -> str:
    return route.name


def _end_at_shutdown(*closers: Callable[[], None]) -> None:
    """End what takes long when a signal comes, event streams and decoding: the server stops only after its
    last response."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)

        def end(number: int, frame: FrameType | None, previous: object = previous) -> None:
            for close in closers:
                loop.call_soon_threadsafe(close)
            if callable(previous):
                previous(number, frame)

        signal.signal(number, end)
