"""Messages of many predictions: each prediction has its own outcome, whatever happens to the others."""

import subprocess
from pathlib import Path
from typing import Any

from scripts.local.config import Config
from tests.chaos.fake_backend import BATCH, BLACK_IMAGE, BULK, Backend
from tests.chaos.fake_classifier import KILLS, RAISES
from tests.chaos.worker_process import run_worker_with_fake_classifier, stop
from tests.conftest import eventually


async def test_each_prediction_of_a_group_has_its_own_outcome(
    servers: Config, backend: Backend, log: Path
) -> None:
    images = [BLACK_IMAGE] * BATCH
    images[10] = RAISES
    ids = await backend.upload(*images, queue=BULK)
    with run_worker_with_fake_classifier(servers, log) as worker:
        await eventually(backend.all_have_ended, 60)
        rows = await backend.rows()
        assert rows[ids[10]]["error_title"] == "Classification failed"
        others = {(rows[id]["prediction"], rows[id]["attempt"]) for id in ids if id != ids[10]}
        assert others == {("cat", 1)}
        await stop(worker)
    assert await backend.waiting_messages() == 0


async def test_an_image_that_kills_the_worker_fails_alone_after_three_attempts(
    servers: Config, backend: Backend, log: Path
) -> None:
    images = [BLACK_IMAGE] * BATCH
    images[20] = KILLS
    ids = await backend.upload(*images, queue=BULK)
    (bystander,) = await backend.upload(BLACK_IMAGE)
    ends = 0
    while not await backend.all_have_ended():
        with run_worker_with_fake_classifier(servers, log) as worker:

            async def is_over(worker: subprocess.Popen[bytes] = worker) -> bool:
                return worker.poll() is not None or await backend.all_have_ended()

            await eventually(is_over, 60)
            if worker.poll() is not None:
                ends += 1
            else:
                await stop(worker)
    rows = await backend.rows()
    assert ends == 3
    poison = rows.pop(ids[20])
    assert (poison["status"], poison["attempt"]) == ("failed", 3)
    assert poison["error_title"] == "Failed after 3 attempts"
    assert {row["status"] for row in rows.values()} == {"succeeded"}
    assert {row["attempt"] for row in rows.values()} <= {1, 2}
    assert {rows[id]["batch_size"] for id in ids if id != ids[20]} == {1}
    assert rows[bystander]["status"] == "succeeded"
    assert await backend.waiting_messages() == 0


async def test_a_cancel_of_one_prediction_of_a_running_group_changes_no_other_prediction(
    servers: Config, backend: Backend, log: Path
) -> None:
    ids = await backend.upload(*[BLACK_IMAGE] * 3)
    with run_worker_with_fake_classifier(servers, log, seconds=1):

        async def is_read() -> Any:  # the worker's latest statement is READ of inference/predictions.py
            return await backend.database.fetchval(
                """SELECT true FROM pg_stat_activity
                   WHERE application_name = 'inference' AND state = 'idle' AND query LIKE '%id, pixels, 0%'"""
            )

        await eventually(is_read, 60)
        await backend.database.execute(
            "UPDATE predictions SET status = 'canceled', completed_at = now() WHERE id = $1", ids[1]
        )
        await eventually(backend.all_have_ended)
    rows = await backend.rows()
    assert [rows[id]["status"] for id in ids] == ["succeeded", "canceled", "succeeded"]


async def test_outcomes_are_written_once_although_their_message_was_published_three_times(
    servers: Config, backend: Backend, log: Path
) -> None:
    ids = await backend.store(*[BLACK_IMAGE] * BATCH)
    with (
        run_worker_with_fake_classifier(servers, log) as first,
        run_worker_with_fake_classifier(servers, log) as second,
    ):

        async def are_ready() -> bool:
            return log.read_text().count("worker ready") == 2  # noqa: ASYNC240

        await eventually(are_ready, 60)
        for _ in range(3):
            await backend.publish(ids, BULK)
        await eventually(backend.all_have_ended, 60)
        await stop(first)
        await stop(second)
    assert await backend.waiting_messages() == 0
    assert {row["attempt"] for row in (await backend.rows()).values()} == {1}
    changes = await backend.database.fetch(
        """SELECT count(*) FROM events JOIN predictions ON prediction_id = id GROUP BY id"""
    )
    assert {row["count"] for row in changes} == {2}  # each prediction was stored once and succeeded once


async def test_a_message_larger_than_a_batch_runs_in_several_batches(
    servers: Config, backend: Backend, log: Path
) -> None:
    await backend.upload(*[BLACK_IMAGE] * 1000, queue=BULK)
    with run_worker_with_fake_classifier(servers, log) as worker:
        await eventually(backend.all_have_ended, 60)
        await stop(worker)
    rows = await backend.rows()
    assert {row["batch_size"] for row in rows.values()} == {BATCH, 1000 % BATCH}
    assert await backend.waiting_messages() == 0
