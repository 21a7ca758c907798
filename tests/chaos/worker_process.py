"""Run a Celery worker as a process of the test."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from scripts.local.config import REPOSITORY, Config


@contextmanager
def run(servers: Config, app: str, log: Path, **settings: str) -> Generator[subprocess.Popen[bytes]]:
    """An inference worker of the Celery app `app`, which appends to `log`. It is killed at the end."""
    command = [f"{Path(sys.executable).parent}/celery", "-A", app, "worker"]
    command += ["--loglevel", "WARNING", "-n", f"{uuid.uuid4()}@test", "--without-gossip", "--without-mingle"]
    addresses = {"DATABASE_URL": servers.database_url("worker"), "BROKER_URL": servers.broker_url("worker")}
    environment = os.environ | addresses | settings
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=file, stderr=file)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def run_worker_with_fake_classifier(
    servers: Config, log: Path, seconds: float = 0.02
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker whose fake classifier sleeps `seconds` for each batch."""
    return run(servers, "tests.chaos.worker_with_fake_classifier", log, BATCH_SECONDS=str(seconds))


async def stop(process: subprocess.Popen[bytes]) -> None:
    """Shut the worker down. It must exit with 0."""
    process.terminate()
    assert await asyncio.to_thread(process.wait, 20) == 0
