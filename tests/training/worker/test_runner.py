"""Outcomes of runs: with a real worker, and a child process that acts as each test needs."""

import asyncio
from typing import Any

import pytest

from tests.conftest import eventually
from tests.training.worker.fake_train import VERSION
from tests.training.worker.harness import OtherServices, Worker, wait_until_gone


async def test_a_run_stores_its_epochs_in_order_and_succeeds(worker: Worker, services: OtherServices) -> None:
    await services.add_model()
    notified: list[str] = []
    await services.database.add_listener("trainings", lambda *args: notified.append(args[3]))
    id = await services.start("epochs", activation="never", epochs=5)
    row = await services.until(id, "succeeded")
    assert (row["model"], row["error_title"], row["attempt"]) == (VERSION, None, 1)
    assert (row["epochs"], row["device"], row["phase"]) == (5, "a test's device", None)
    assert row["timestamp"] <= row["started_at"] <= row["completed_at"]
    assert await services.epochs(id) == [1, 2, 3, 4, 5]
    epoch = await services.database.fetchrow("SELECT * FROM epochs WHERE number = 2")
    assert epoch is not None
    assert (epoch["loss"], epoch["images_per_second"], epoch["seconds_left"]) == (1.0, 1000.5, 3.0)
    # Each of 12 changes notifies: insert, claim, device, 3 phases, 5 epochs, outcome.
    # The last notifications may arrive after this check.
    assert notified.count(str(id)) >= 8

    async def logged() -> dict[str, Any]:  # the worker logs the end after the commit of the outcome
        lines = {line["message"]: line for line in worker.log if line.get("training_id") == str(id)}
        return lines if "training ended" in lines else {}

    lines = await eventually(logged)
    assert {"training taken", "training started"} <= lines.keys()
    assert lines["training taken"]["request_id"] == "request-1"
    assert "note: left out, system files and folders: 1 (train/.DS_Store)" in lines


async def test_the_child_gets_the_run_s_options_and_no_secret(
    worker: Worker, services: OtherServices
) -> None:
    await services.add_model()
    (worker.data_sets / "pets" / "train").mkdir(parents=True)
    id = await services.start("epochs", data="pets", epochs=1, activation="always", seed=2**31 - 1)
    await services.until(id, "succeeded")
    attempt = worker.children[-1]
    assert attempt["secrets"] == []
    given = dict(zip(attempt["arguments"][::2], attempt["arguments"][1::2], strict=True))
    assert given == {
        "--recipe": "epochs",
        "--seed": "2147483647",
        "--epochs": "1",
        "--data": str(worker.data_sets / "pets"),
        "--models": str(worker.models),
        "--cache": str(worker.cache),
        "--activation": "always",
        "--checkpoint": str(worker.models / f".runs/{id}.checkpoint"),
        "--report": "json",
    }


@pytest.mark.parametrize("recipe", ["hang", "ignores-sigterm"])
async def test_a_canceled_run_ends_its_child(recipe: str, worker: Worker, services: OtherServices) -> None:
    id = await services.start(recipe)
    await services.until_epoch(id, 1)
    pid = worker.children[-1]["pid"]
    await services.database.execute("UPDATE trainings SET status = 'canceled', completed_at = now()")
    started = asyncio.get_running_loop().time()
    await wait_until_gone(pid)
    seconds = asyncio.get_running_loop().time() - started
    assert seconds < (1.5 if recipe == "hang" else 3.5)  # a child that ignores SIGTERM is killed after 2 s
    await eventually(worker.has_no_checkpoint)
    assert (await services.row(id))["status"] == "canceled"


@pytest.mark.parametrize(
    ("recipe", "title", "words"),
    [
        ("crash", "Training crashed", ["exit status 1", "ZeroDivisionError: by zero"]),
        ("killed", "Training crashed", ["SIGKILL", "memory"]),
        ("exits-without-publishing", "Training crashed", ["without publishing"]),
        ("bad-data", "Data cannot be used", ["train/caf?/7.png cannot be read. Remove it."]),
        ("diverge", "Training diverged", ["epoch 2", "loss", "another seed"]),
    ],
)
async def test_a_run_that_cannot_succeed_fails_with_a_reason(
    recipe: str, title: str, words: list[str], worker: Worker, services: OtherServices
) -> None:
    id = await services.start(recipe)
    row = await services.until(id, "failed")
    assert row["error_title"] == title
    assert [word for word in words if word not in row["error_detail"]] == []
    assert row["model"] is None


@pytest.mark.parametrize("name", ["birds", "../cache", ".hidden"])
async def test_a_run_whose_data_set_does_not_exist_fails_and_lists_existing_data_sets(
    name: str, worker: Worker, services: OtherServices
) -> None:
    (worker.data_sets / "fish").mkdir(parents=True, exist_ok=True)
    (worker.data_sets / ".hidden").mkdir(parents=True, exist_ok=True)
    row = await services.until(await services.start("epochs", data=name), "failed")
    assert row["error_title"] == "Data set not found"
    assert repr(name) in row["error_detail"] and "fish" in row["error_detail"]


async def test_a_run_whose_worker_has_stopped_three_times_fails(
    worker: Worker, services: OtherServices
) -> None:
    before = len(worker.children)
    id = await services.add("epochs", status="running", attempt=3)
    # The run's worker has been silent for longer than STALE_SECONDS (15), so another may claim the run.
    await services.database.execute("UPDATE trainings SET seen_at = now() - interval '16 s'")
    await services.publish(id)
    row = await services.until(id, "failed")
    assert (row["error_title"], row["attempt"]) == ("Failed after 3 attempts", 3)
    assert "3 times" in row["error_detail"]
    assert len(worker.children) == before


async def test_a_run_waits_until_a_worker_serves_its_model(worker: Worker, services: OtherServices) -> None:
    announced: list[str] = []
    await services.database.add_listener("models", lambda *args: announced.append(args[2]))
    id = await services.start("epochs")

    async def published() -> bool:
        return bool(announced)

    await eventually(published)
    await services.database.execute(
        "INSERT INTO models (version, card, activated_at) VALUES ($1, '{}', clock_timestamp())", VERSION
    )
    with pytest.raises(TimeoutError):
        await services.until(id, "succeeded", seconds=1)
    await services.database.execute("UPDATE models SET served_at = clock_timestamp()")
    row = await services.until(id, "succeeded")
    served_at = await services.database.fetchval("SELECT served_at FROM models")
    assert row["completed_at"] > served_at


async def test_an_attempt_publishes_nothing_if_another_attempt_has_claimed_its_run(
    worker: Worker, services: OtherServices
) -> None:
    id = await services.start("waits-for-go", epochs=1)
    await services.until_epoch(id, 1)
    child = worker.children[-1]["pid"]
    blocked = """SELECT count(*) FROM pg_stat_activity
                 WHERE application_name = 'training' AND wait_event_type = 'Lock'"""
    async with services.database.transaction():
        await services.database.execute("UPDATE trainings SET attempt = attempt + 1 WHERE id = $1", id)
        (worker.cache / "go").touch()

        async def waits_for_lock() -> Any:
            return await services.database.fetchval(blocked)

        await eventually(waits_for_lock)
    await wait_until_gone(child)
    assert not (worker.cache / f"{id}.published").exists()


async def test_a_run_succeeds_without_an_inference_worker(worker: Worker, services: OtherServices) -> None:
    row = await services.until(await services.start("epochs"), "succeeded", seconds=50)
    assert row["model"] == VERSION
    assert (row["completed_at"] - row["started_at"]).total_seconds() > 10  # NO_WORKER_SECONDS


async def test_a_run_fails_if_the_inference_workers_refuse_its_model(
    worker: Worker, services: OtherServices
) -> None:
    await services.add_model(error="model.onnx is damaged; train it again")
    row = await services.until(await services.start("epochs"), "failed")
    assert (row["error_title"], row["model"]) == ("Model refused", None)
    assert "damaged" in row["error_detail"]


async def test_a_run_continues_after_a_lost_database_connection(
    worker: Worker, services: OtherServices
) -> None:
    await services.add_model()
    id = await services.start("hang")
    await services.until_epoch(id, 1)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'training'"
    assert await services.database.fetch(cut)
    before = (await services.row(id))["seen_at"]

    async def seen() -> bool:
        return (await services.row(id))["seen_at"] > before

    await eventually(seen)
    assert (await services.row(id))["status"] == "running"
