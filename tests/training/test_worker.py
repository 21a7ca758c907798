"""The training worker, a real one, with a small child that behaves as each test needs."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import psutil
import pytest
from pydantic import SecretStr

from scripts.local import stack
from scripts.local.config import REPOSITORY, Config
from tests.conftest import eventually
from tests.training.fake_train import VERSION
from tests.training.harness import Trainings, Worker
from training.child import Child
from training.errors import TrainingFailed
from training.runner import HANDED_BACK, Runner
from training.runs import Database
from training.settings import Settings


@pytest.fixture(scope="module")
def standing(
    servers: Config, tmp_path_factory: pytest.TempPathFactory
) -> Generator[tuple[Worker, subprocess.Popen[bytes]]]:
    """One worker for the tests that leave it as they found it."""
    worker = Worker(servers, tmp_path_factory.mktemp("training"))
    with worker.running() as process:
        yield worker, process
        assert process.poll() is None


@pytest.fixture
def worker(standing: tuple[Worker, subprocess.Popen[bytes]]) -> Worker:
    return standing[0]


@pytest.fixture
def own(servers: Config, tmp_path: Path) -> Worker:
    """A worker that the test starts and ends itself; the standing one must not run: use it first."""
    return Worker(servers, tmp_path)


@pytest.fixture
async def trainings(servers: Config) -> AsyncGenerator[Trainings]:
    database = await asyncpg.connect(servers.database_url("cifar"), command_timeout=30)
    broker = await aio_pika.connect(servers.broker_url("backend"), timeout=30)
    await database.execute("TRUNCATE trainings, epochs, models")
    channel = await broker.channel()
    await (await channel.get_queue("training", ensure=False)).purge()
    yield Trainings(database, channel)
    await database.execute(
        "UPDATE trainings SET status = 'canceled', completed_at = now() WHERE completed_at IS NULL"
    )  # the standing worker ends what it still runs
    with suppress(aio_pika.exceptions.AMQPError):  # a test may have killed the broker
        await broker.close()
    await database.close()


async def ends(pid: int) -> None:
    async def ended() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    await eventually(ended, 5)


# Tests of workers of their own come first, before the standing worker starts.


async def test_a_worker_that_is_told_to_stop_hands_its_run_back_and_the_next_one_goes_on(
    own: Worker, trainings: Trainings
) -> None:
    await trainings.serve()
    with own.running() as process:
        id = await trainings.start("hang-once")
        await trainings.until_epoch(id, 1)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 10) == 0
    row = await trainings.row(id)
    assert (row["status"], row["attempt"], row["phase"]) == ("queued", 0, None)
    assert own.checkpoints() == [f"{id}.checkpoint"]
    with own.running():
        await trainings.publish(id)
        row = await trainings.until(id, "succeeded")
        assert row["attempt"] == 1
        assert await trainings.epochs(id) == [1, 2, 3]

        async def swept() -> bool:
            return own.checkpoints() == []

        await eventually(swept)
    assert len(own.attempts) == 2


async def test_an_epoch_that_the_worker_had_not_heard_of_is_told_by_the_next_attempt(
    own: Worker, trainings: Trainings
) -> None:
    await trainings.serve()
    with own.running() as process:
        id = await trainings.start("untold")
        checkpoint = own.models / f".runs/{id}.checkpoint"

        async def kept() -> bool:
            return checkpoint.exists() and checkpoint.read_text() == "2"

        await eventually(kept)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 10) == 0
    assert 2 not in await trainings.epochs(id)
    with own.running():
        await trainings.publish(id)
        await trainings.until(id, "succeeded")
    assert await trainings.epochs(id) == [1, 2, 3]


async def test_a_killed_worker_takes_its_child_with_it_and_its_run_is_claimed_again(
    own: Worker, trainings: Trainings
) -> None:
    await trainings.serve()
    with own.running() as process:
        id = await trainings.start("hang-once")
        await trainings.until_epoch(id, 1)
        process.kill()
        await ends(own.attempts[0]["pid"])
    assert (await trainings.row(id))["status"] == "running"
    with own.running():
        await trainings.publish(id)  # too early: the worker may only be slow

        async def skipped() -> bool:
            return any(line["message"].startswith("skipped") for line in own.log)

        await eventually(skipped)
        await trainings.database.execute("UPDATE trainings SET seen_at = seen_at - interval '15 s'")
        await trainings.publish(id)
        row = await trainings.until(id, "succeeded")
    assert (row["attempt"], row["model"]) == (2, VERSION)
    assert await trainings.epochs(id) == [1, 2, 3]


async def test_a_worker_with_no_broker_waits_and_one_that_has_it_says_that_it_lives(
    own: Worker, trainings: Trainings
) -> None:
    there = own.environment["BROKER_URL"]
    own.environment["BROKER_URL"] = "amqp://training:x@127.0.0.1:1/cifar"
    with own.running() as process:

        async def tried() -> bool:
            return "Cannot connect" in own.log_file.read_text()

        await eventually(tried)
        assert process.poll() is None
    assert not own.alive_file.exists()
    own.environment["BROKER_URL"] = there
    with own.running():

        async def touched() -> bool:
            return own.alive_file.exists()

        await eventually(touched)


async def test_a_run_tells_its_epochs_in_order_and_succeeds(worker: Worker, trainings: Trainings) -> None:
    await trainings.serve()
    told: list[str] = []
    await trainings.database.add_listener("trainings", lambda *args: told.append(args[3]))
    id = await trainings.start("epochs", activation="never", epochs=5)
    row = await trainings.until(id, "succeeded")
    assert (row["model"], row["error_title"], row["attempt"]) == (VERSION, None, 1)
    assert (row["epochs"], row["device"], row["phase"]) == (5, "a test's device", None)
    assert row["timestamp"] <= row["started_at"] <= row["completed_at"]
    assert await trainings.epochs(id) == [1, 2, 3, 4, 5]
    epoch = await trainings.database.fetchrow("SELECT * FROM epochs WHERE number = 2")
    assert epoch is not None
    assert (epoch["loss"], epoch["images_per_second"], epoch["seconds_left"]) == (1.0, 1000.5, 3.0)
    assert told.count(str(id)) >= 8  # its insert, claim, description, phases, epochs and outcome
    told_of = {line["message"]: line for line in worker.log if line.get("training_id") == str(id)}
    assert {"training taken", "training started", "training ended"} <= told_of.keys()
    assert told_of["training taken"]["request_id"] == "request-1"


async def test_the_child_gets_the_run_s_options_and_no_secret(worker: Worker, trainings: Trainings) -> None:
    await trainings.serve()
    (worker.data_sets / "pets" / "train").mkdir(parents=True)
    id = await trainings.start("epochs", data="pets", epochs=1, activation="always", seed=2**31 - 1)
    await trainings.until(id, "succeeded")
    attempt = worker.attempts[-1]
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


@pytest.mark.parametrize("recipe", ["hang", "deaf"])
async def test_a_canceled_run_ends_its_child(recipe: str, worker: Worker, trainings: Trainings) -> None:
    id = await trainings.start(recipe)
    await trainings.until_epoch(id, 1)
    pid = worker.attempts[-1]["pid"]
    await trainings.database.execute("UPDATE trainings SET status = 'canceled', completed_at = now()")
    started = asyncio.get_running_loop().time()
    await ends(pid)
    seconds = asyncio.get_running_loop().time() - started
    assert seconds < (1.5 if recipe == "hang" else 3.5)  # one that ignores SIGTERM is killed after 2 s

    async def swept() -> bool:
        return worker.checkpoints() == []

    await eventually(swept)
    assert (await trainings.row(id))["status"] == "canceled"


@pytest.mark.parametrize(
    ("recipe", "title", "words"),
    [
        ("crash", "Training crashed", ["exit status 1", "ZeroDivisionError: by zero"]),
        ("killed", "Training crashed", ["SIGKILL", "memory"]),
        ("silent", "Training crashed", ["without publishing"]),
        ("bad-data", "Data cannot be used", ["train/cat/7.png cannot be read as an image; remove it"]),
        ("other-run", "Training cannot go on", ["was changed", "Start another"]),
        ("diverge", "Training diverged", ["epoch 2", "loss", "another seed"]),
    ],
)
async def test_a_run_that_cannot_be_ended_well_fails_in_words(
    recipe: str, title: str, words: list[str], worker: Worker, trainings: Trainings
) -> None:
    id = await trainings.start(recipe)
    row = await trainings.until(id, "failed")
    assert row["error_title"] == title
    assert [word for word in words if word not in row["error_detail"]] == []
    assert row["model"] is None


@pytest.mark.parametrize("name", ["birds", "../cache", ".hidden"])
async def test_a_data_set_that_is_not_there_is_told_with_those_that_are(
    name: str, worker: Worker, trainings: Trainings
) -> None:
    (worker.data_sets / "fish").mkdir(parents=True, exist_ok=True)
    (worker.data_sets / ".hidden").mkdir(parents=True, exist_ok=True)
    row = await trainings.until(await trainings.start("epochs", data=name), "failed")
    assert row["error_title"] == "Data set not found"
    assert repr(name) in row["error_detail"] and "fish" in row["error_detail"]


async def test_a_run_whose_worker_fell_silent_three_times_is_given_up(
    worker: Worker, trainings: Trainings
) -> None:
    before = len(worker.attempts)
    id = await trainings.add("epochs", status="running", attempt=3)
    await trainings.database.execute("UPDATE trainings SET seen_at = now() - interval '16 s'")
    await trainings.publish(id)
    row = await trainings.until(id, "failed")
    assert (row["error_title"], row["attempt"]) == ("Given up", 3)
    assert "3 times" in row["error_detail"]
    assert len(worker.attempts) == before


async def test_runs_go_one_at_a_time_and_what_waits_stays_in_the_broker(
    worker: Worker, trainings: Trainings
) -> None:
    await trainings.serve()
    first = await trainings.start("hang")
    await trainings.until_epoch(first, 1)
    others = [await trainings.start("epochs", epochs=1) for _ in range(3)]

    async def waiting() -> bool:
        return await trainings.count("training") == 3

    await eventually(waiting)
    assert [(await trainings.row(id))["status"] for id in others] == ["queued"] * 3
    await trainings.database.execute(
        "UPDATE trainings SET status = 'canceled', completed_at = now() WHERE id = $1", first
    )
    rows = [await trainings.until(id, "succeeded") for id in others]
    spans = sorted((row["started_at"], row["completed_at"]) for row in rows)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


async def test_a_run_succeeds_once_the_next_prediction_is_answered_by_its_model(
    worker: Worker, trainings: Trainings
) -> None:
    announced: list[str] = []
    await trainings.database.add_listener("models", lambda *args: announced.append(args[2]))
    id = await trainings.start("epochs")

    async def published() -> bool:
        return bool(announced)

    await eventually(published)
    await trainings.database.execute(
        "INSERT INTO models (version, card, activated_at) VALUES ($1, '{}', clock_timestamp())", VERSION
    )
    with pytest.raises(TimeoutError):
        await trainings.until(id, "succeeded", seconds=1)
    await trainings.database.execute("UPDATE models SET served_at = clock_timestamp()")
    row = await trainings.until(id, "succeeded")
    served_at = await trainings.database.fetchval("SELECT served_at FROM models")
    assert row["completed_at"] > served_at


async def test_a_run_that_another_attempt_has_taken_over_publishes_nothing(
    worker: Worker, trainings: Trainings
) -> None:
    id = await trainings.start("late", epochs=1)
    await trainings.until_epoch(id, 1)
    child = worker.attempts[-1]["pid"]
    blocked = """SELECT count(*) FROM pg_stat_activity
                 WHERE application_name = 'training' AND wait_event_type = 'Lock'"""
    async with trainings.database.transaction():
        await trainings.database.execute("UPDATE trainings SET attempt = attempt + 1 WHERE id = $1", id)
        (worker.cache / "go").touch()

        async def asks() -> Any:
            return await trainings.database.fetchval(blocked)

        await eventually(asks)
    await ends(child)
    assert not (worker.cache / f"{id}.published").exists()


async def test_a_model_that_no_inference_worker_finds_is_published_all_the_same(
    worker: Worker, trainings: Trainings
) -> None:
    row = await trainings.until(await trainings.start("epochs"), "succeeded", seconds=25)
    assert row["model"] == VERSION
    assert (row["completed_at"] - row["started_at"]).total_seconds() > 10


async def test_a_model_that_the_inference_workers_refuse_fails_its_run(
    worker: Worker, trainings: Trainings
) -> None:
    await trainings.serve(error="model.safetensors is damaged; train it again")
    row = await trainings.until(await trainings.start("epochs"), "failed")
    assert (row["error_title"], row["model"]) == ("Model refused", None)
    assert "damaged" in row["error_detail"]


async def test_a_run_goes_on_while_the_database_is_away_for_a_moment(
    worker: Worker, trainings: Trainings
) -> None:
    await trainings.serve()
    id = await trainings.start("hang")
    await trainings.until_epoch(id, 1)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'training'"
    assert await trainings.database.fetch(cut)
    before = (await trainings.row(id))["seen_at"]

    async def seen() -> bool:
        return (await trainings.row(id))["seen_at"] > before

    await eventually(seen)
    assert (await trainings.row(id))["status"] == "running"


@pytest.mark.parametrize("it_ends", ["meanwhile", "later"])
async def test_a_run_survives_the_broker_and_the_next_message_is_taken_when_it_has_ended(
    it_ends: str, worker: Worker, trainings: Trainings, servers: Config
) -> None:
    await trainings.serve()
    first = await trainings.start("hang")
    await trainings.until_epoch(first, 1)
    (rabbitmq,) = [process for process in stack.processes(servers) if process["name"] == "rabbitmq"]
    os.kill(rabbitmq["pid"], signal.SIGKILL)  # supervisord starts another
    cancel = "UPDATE trainings SET status = 'canceled', completed_at = now() WHERE id = $1"
    if it_ends == "meanwhile":
        await trainings.database.execute(cancel, first)
    killed = time.time()

    async def connected() -> Any:
        try:
            return worker.alive_file.stat().st_mtime > killed + 3 and await aio_pika.connect(
                servers.broker_url("backend")
            )
        except aio_pika.exceptions.AMQPError:
            return None

    broker = await eventually(connected, 60)
    async with broker:
        again = Trainings(trainings.database, await broker.channel())
        second = await again.start("epochs", epochs=1)
        if it_ends == "later":

            async def stays() -> bool:
                return await again.count("training") == 1

            await eventually(stays)
            assert (await trainings.row(first))["status"] == "running"
            await trainings.database.execute(cancel, first)
        await again.until(second, "succeeded", seconds=30)


@pytest.mark.parametrize(
    ("headers", "body", "content_type"),
    [
        ({"task": "training.train"}, b'[["x"], {}, {}]', "application/json"),
        ({"task": "training.train", "id": "a"}, b"{not json", "application/json"),
        ({"task": "training.train", "id": "a"}, b"[1, 2]", "application/json"),
        ({"task": "training.train", "id": "a"}, b"hello", None),
        ({"task": "training.train", "id": "a"}, b"\x80\x04N.", "application/x-python-serialize"),
        ({"task": "no.such.task", "id": "a"}, b"[[], {}, {}]", "application/json"),
        ({}, b"hello", "text/plain"),
    ],
    ids=["no id", "broken json", "two items", "no type", "pickle", "unknown task", "no headers"],
)
async def test_a_malformed_message_goes_to_the_dead_letters_and_the_worker_lives(
    headers: dict[str, Any],
    body: bytes,
    content_type: str | None,
    standing: tuple[Worker, subprocess.Popen[bytes]],
    trainings: Trainings,
) -> None:
    await trainings.serve()
    count = await trainings.count("training.dead")
    await trainings.publish_raw(body, headers, content_type)

    async def dead_lettered() -> bool:
        return await trainings.count("training.dead") == count + 1

    await eventually(dead_lettered)
    await trainings.until(await trainings.start("epochs", epochs=1), "succeeded")
    assert standing[1].poll() is None


async def test_a_message_for_no_training_changes_nothing(worker: Worker, trainings: Trainings) -> None:
    await trainings.serve()
    await trainings.publish("not-an-id")
    await trainings.publish(uuid4())
    await trainings.until(await trainings.start("epochs", epochs=1), "succeeded")


def test_a_worker_that_stops_does_not_wait_for_a_database_that_is_away(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    url, nowhere = "postgresql://x:x@127.0.0.1:1/x", "amqp://127.0.0.1:1"
    settings = Settings(database_url=SecretStr(url), broker_url=SecretStr(nowhere), models_path=tmp_path)
    runner = Runner(settings, Database(url, stopping), ["false"], stopping)
    assert runner.run(uuid4()) == HANDED_BACK


def test_a_child_that_dies_before_it_may_publish_is_explained_by_its_own_end() -> None:
    dies = "import sys; sys.exit('train: no memory')"
    with Child([sys.executable, "-c", dies], uuid4()) as child:
        child.wait(20)
        child.allow()
        with pytest.raises(TrainingFailed, match="no memory"):
            child.read(0.1)


def test_a_worker_and_its_child_are_told_apart_by_what_they_load() -> None:
    loaded = "import training.app, training.settings, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "False", done.stderr
