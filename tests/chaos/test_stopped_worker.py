"""A worker that is stopped finishes its batches and returns the other messages.

If the database is unreachable, the worker waits. If it is stopped while it waits, it returns all unfinished
messages.
"""

from pathlib import Path

from scripts.local.config import Config
from tests.chaos.fake_backend import BATCH, BLACK_IMAGE, BULK, Backend
from tests.chaos.worker_process import run_worker_with_fake_classifier, stop
from tests.conftest import eventually, worker_locked_out


async def test_a_stopped_worker_finishes_the_batch_of_each_stage_and_returns_the_rest(
    servers: Config, backend: Backend, log: Path
) -> None:
    count = 30
    for _ in range(count):
        await backend.upload(*[BLACK_IMAGE] * BATCH, queue=BULK)
    with run_worker_with_fake_classifier(servers, log, seconds=0.1) as worker:

        async def is_at_work() -> bool:
            return await backend.count("completed_at IS NOT NULL") > 3 * BATCH

        await eventually(is_at_work, 60)
        await stop(worker)
    rows = await backend.rows()
    done = [row for row in rows.values() if row["status"] == "succeeded"]
    assert {(row["attempt"], row["batch_size"]) for row in done} == {(1, BATCH)}
    assert {(row["status"], row["attempt"]) for row in rows.values()} == {("succeeded", 1), ("queued", 0)}
    left = count - len(done) // BATCH
    assert left > 0
    assert len(done) % BATCH == 0

    async def are_back() -> bool:
        return await backend.waiting_messages() == left

    await eventually(are_back)
    with run_worker_with_fake_classifier(servers, log, seconds=0) as worker:
        await eventually(backend.all_have_ended, 60)
        await stop(worker)
    assert await backend.waiting_messages() == 0
    assert {row["status"] for row in (await backend.rows()).values()} == {"succeeded"}


async def test_a_worker_with_a_batch_in_each_stage_waits_for_the_database(
    servers: Config, backend: Backend, log: Path
) -> None:
    for _ in range(20):
        await backend.upload(*[BLACK_IMAGE] * BATCH, queue=BULK)
    with run_worker_with_fake_classifier(servers, log, seconds=0.1) as worker:  # 2 s for all 20 batches

        async def has_logged_it() -> bool:
            return "the database is unreachable" in log.read_text()  # noqa: ASYNC240

        await eventually(backend.has_an_outcome, 60)
        async with worker_locked_out(backend.database):
            await eventually(has_logged_it)
            assert worker.poll() is None
        await eventually(backend.all_have_ended, 60)
        await stop(worker)
    assert {(row["status"], row["attempt"]) for row in (await backend.rows()).values()} == {("succeeded", 1)}
    assert await backend.waiting_messages() == 0


async def test_a_worker_that_stops_without_the_database_returns_its_messages(
    servers: Config, backend: Backend, log: Path
) -> None:
    count = 20
    for _ in range(count):
        await backend.upload(*[BLACK_IMAGE] * BATCH, queue=BULK)
    with run_worker_with_fake_classifier(servers, log, seconds=0.1) as worker:  # 2 s for all 20 batches
        await eventually(backend.has_an_outcome, 60)
        async with worker_locked_out(backend.database):
            await stop(worker)
    left = await backend.count("completed_at IS NULL")
    assert left > 0

    async def are_back() -> bool:
        return await backend.waiting_messages() >= left // BATCH

    await eventually(are_back)
    with run_worker_with_fake_classifier(servers, log, seconds=0):
        await eventually(backend.all_have_ended, 60)
    rows = (await backend.rows()).values()
    assert {row["status"] for row in rows} == {"succeeded"}
    assert max(row["attempt"] for row in rows) <= 3
