"""A backlog: single uploads do not wait for it, and bulk uploads do not starve.

The fake classifier of `run_worker_with_fake_classifier` takes `seconds` for each batch.
"""

import asyncio
from pathlib import Path

from scripts.local.config import Config
from tests.chaos.fake_backend import BATCH, BLACK_IMAGE, BULK, Backend
from tests.chaos.worker_process import run_worker_with_fake_classifier
from tests.conftest import eventually


async def test_a_single_upload_does_not_wait_for_a_backlog_of_bulk(
    servers: Config, backend: Backend, log: Path
) -> None:
    for _ in range(40):
        await backend.upload(*[BLACK_IMAGE] * BATCH, queue=BULK)
    with run_worker_with_fake_classifier(servers, log, seconds=0.05):
        await eventually(backend.has_an_outcome, 60)
        (single,) = await backend.upload(BLACK_IMAGE)
        await eventually(backend.all_have_ended, 60)
        rows = await backend.rows()
        later = [row for row in rows.values() if row["completed_at"] > rows[single]["completed_at"]]
        assert len(later) > 20 * BATCH


async def test_a_single_upload_does_not_wait_for_all_redelivered_predictions(
    servers: Config, backend: Backend, log: Path
) -> None:
    for _ in range(5):
        await backend.upload(*[BLACK_IMAGE] * BATCH, queue=BULK)

    with run_worker_with_fake_classifier(servers, log, seconds=0.2):  # the end of the block kills the worker
        await eventually(backend.has_an_outcome, 60)

    async def redelivered_ones_run() -> bool:
        return await backend.count("completed_at IS NOT NULL AND attempt = 2") > 0

    with run_worker_with_fake_classifier(servers, log, seconds=0.01):
        await eventually(redelivered_ones_run, 60)
        (single,) = await backend.upload(BLACK_IMAGE)
        await eventually(backend.all_have_ended, 60)
    rows = await backend.rows()
    assert rows[single]["attempt"] == 1
    later = [row for row in rows.values() if row["completed_at"] > rows[single]["completed_at"]]
    assert {(row["attempt"], row["batch_size"]) for row in later} == {(2, 1)}
    assert len(later) > BATCH


async def test_bulk_does_not_starve_behind_single_uploads(
    servers: Config, backend: Backend, log: Path
) -> None:
    bulk = await backend.upload(*[BLACK_IMAGE] * BATCH, queue=BULK)
    single = await backend.store(*[BLACK_IMAGE] * 20 * BATCH)
    await asyncio.gather(*[backend.publish([id]) for id in single])
    with run_worker_with_fake_classifier(servers, log, seconds=0.05):
        await eventually(backend.all_have_ended, 60)
        rows = await backend.rows()
        last = max(rows[id]["completed_at"] for id in bulk)
        assert sum(rows[id]["completed_at"] > last for id in single) > 5 * BATCH
