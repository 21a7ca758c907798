"""The watcher while the database is unreachable, or its connection breaks."""

from functools import partial
from pathlib import Path

import asyncpg
import pytest

from inference.classifier import Classifier
from tests.conftest import activate, eventually, worker_locked_out
from tests.inference.artifacts import publish
from tests.inference.conftest import MakeWatcher, fetch, serving


async def has_complained(caplog: pytest.LogCaptureFixture) -> bool:
    return any("cannot be read" in record.getMessage() for record in caplog.records)


async def test_a_worker_serves_without_the_database_and_swaps_when_it_is_back(
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, "v1")
    publish(tmp_path, "v2", accuracy=0.1)  # worse than v1, so it is active only after `activate`
    watcher = make_watcher()
    watcher.wait_for_model()
    watcher.start(lambda _: None)

    async def swapped() -> bool:
        row = await fetch(database, "v2")
        return serving(watcher) == "v2" and row["served_at"] is not None

    async with worker_locked_out(database):
        await activate(database, "v2")
        await eventually(partial(has_complained, caplog))
        assert serving(watcher) == "v1"
    await eventually(swapped)


async def test_a_swap_succeeds_if_the_database_connection_breaks_during_it(
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    publish(tmp_path, "v1")
    publish(tmp_path, "v2", accuracy=0.1)  # worse than v1, so it is active only after `activate`
    watcher = make_watcher()
    watcher.turn()

    def serve(_: Classifier) -> None:
        watcher.registry._open().close()  # before `served_at` can be written

    watcher._serve = serve
    await activate(database, "v2")
    watcher.turn()
    assert serving(watcher) == "v2"
    assert (await fetch(database, "v2"))["served_at"] is None
    watcher.turn()
    assert (await fetch(database, "v2"))["served_at"] is not None


async def test_a_watcher_that_cannot_connect_can_be_stopped(
    make_watcher: MakeWatcher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, "v1")
    watcher = make_watcher("postgresql://x:x@127.0.0.1:1/x")
    watcher.start(lambda _: None)
    await eventually(partial(has_complained, caplog))
    watcher.stopping.set()
    watcher.join()
    assert not watcher._thread.is_alive()
