"""A watcher of the test's own models folder."""

import os
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from inference.classifier import Loader
from inference.registry import Registry
from inference.watcher import Watcher
from scripts.local.config import Config

BATCH = 4
MakeWatcher = Callable[..., Watcher]


@pytest.fixture
def make_watcher(servers: Config, tmp_path: Path) -> Generator[MakeWatcher]:
    """Makes watchers of the folder `tmp_path`, and stops them after the test."""
    made: list[Watcher] = []

    def make(url: str | None = None) -> Watcher:
        registry = Registry(url or servers.database_url("worker"))
        loader = Loader(cpu_threads=1, max_batch_size=BATCH)
        made.append(Watcher(registry, tmp_path, loader, threading.Event()))
        return made[-1]

    yield make
    for watcher in made:
        watcher.stopping.set()
        watcher.join()
        watcher.registry.disconnect()


def settle(folder: Path) -> None:
    """Set the time of the last change of a folder and its files to a minute ago.

    A watcher then refuses a broken version at once.
    """
    then = time.time() - 60
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


async def fetch(database: asyncpg.Connection, version: str) -> Any:
    return await database.fetchrow("SELECT * FROM models WHERE version = $1", version)


def serving(watcher: Watcher) -> str | None:
    return watcher.classifier and watcher.classifier.version
