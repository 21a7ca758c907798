"""The application factory."""

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

from fastapi import FastAPI

from backend import logs, openapi, problems
from backend.middleware import API, RequestMiddleware
from backend.routes import metrics, models, predict, predictions, probes, streams, trainings
from backend.services import Services
from backend.settings import Settings

DESCRIPTION = """Classifies images. Upload an image with `POST /api/predict`, and follow the prediction live
at the address in `urls.events`. The history has every accepted image and its outcome, until they are removed.
Start a training with `POST /api/trainings`, and follow its epochs at the address in `urls.events`. Activate
the model that it publishes, or another one of `GET /api/models`."""
SECRETS = Path("/run/secrets")  # Docker puts each secret into a file here


def create_app() -> FastAPI:
    """The application, with settings from the environment and, in a container, from secret files.

    Run: uvicorn --factory backend.main:create_app
    """
    logs.configure()
    app = build_app(Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None))  # pyright: ignore
    # Garbage collection with Python's default thresholds took a fifth of the CPU time of a prediction. Nearly
    # all objects are freed without it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
    return app


def build_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        services = app.state.services = Services(settings)
        async with services.run():
            _end_at_shutdown(services.events.close, services.decoders.close)
            yield

    app = FastAPI(
        title="Image classification",
        version="0.1.0",
        description=DESCRIPTION,
        docs_url=None,  # the proxy serves /docs with its own assets
        redoc_url=None,
        redirect_slashes=False,  # the middleware drops a slash at the end of a path
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    for part in (predict, predictions, streams, trainings, models, probes):
        app.include_router(part.router, prefix=API)
    app.include_router(metrics.router)
    app.add_middleware(RequestMiddleware)
    problems.install(app)
    openapi.add_problem(app)
    return app


def _end_at_shutdown(*closers: Callable[[], None]) -> None:
    """Call the closers on SIGTERM and SIGINT. They end event streams and decoding, because the server waits
    for its last answer, for at most ten seconds."""
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
