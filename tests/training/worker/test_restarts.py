"""How the worker starts and ends, and what happens to its run."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from celery_worker.errors import Stopped
from scripts.local.config import REPOSITORY, Config
from tests.conftest import eventually
from tests.training.worker.fake_train import VERSION
from tests.training.worker.harness import OtherServices, Worker, wait_until_gone
from training.worker.run import Run
from training.worker.runner import HANDED_BACK, Runner
from training.worker.runs import Runs
from training.worker.settings import Settings


@pytest.fixture
def own(servers: Config, tmp_path: Path) -> Worker:
    """A worker that the test starts and ends itself."""
    return Worker(servers, tmp_path)


async def test_a_worker_that_shuts_down_hands_its_run_back_and_the_next_worker_resumes_it(
    own: Worker, services: OtherServices
) -> None:
    await services.add_model()
    with own.running() as process:
        id = await services.start("hang-once")
        await services.until_epoch(id, 1)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 30) == 0
    row = await services.row(id)
    assert (row["status"], row["attempt"], row["phase"]) == ("queued", 0, None)  # the attempt does not count
    assert own.checkpoints() == [f"{id}.checkpoint"]
    with own.running():
        await services.publish(id)
        row = await services.until(id, "succeeded")
        assert row["attempt"] == 1
        assert await services.epochs(id) == [1, 2, 3]
        await eventually(own.has_no_checkpoint)
    assert len(own.children) == 2


async def test_the_next_attempt_reports_an_epoch_that_the_first_one_did_not_report(
    own: Worker, services: OtherServices
) -> None:
    await services.add_model()
    with own.running() as process:
        id = await services.start("hangs-before-report")
        checkpoint = own.models / f".runs/{id}.checkpoint"

        async def kept() -> bool:
            return checkpoint.exists() and checkpoint.read_text() == "2"

        await eventually(kept)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 30) == 0
    assert 2 not in await services.epochs(id)
    with own.running():
        await services.publish(id)
        await services.until(id, "succeeded")
    assert await services.epochs(id) == [1, 2, 3]


async def test_the_child_of_a_killed_worker_ends_and_the_run_is_claimed_again(
    own: Worker, services: OtherServices
) -> None:
    await services.add_model()
    with own.running() as process:
        id = await services.start("hang-once")
        await services.until_epoch(id, 1)
        process.kill()
        await wait_until_gone(own.children[0]["pid"])
    assert (await services.row(id))["status"] == "running"
    with own.running():
        await services.publish(id)  # too early: the second worker must assume that the first one is only slow

        async def skipped() -> bool:
            return any(line["message"].startswith("skipped") for line in own.log)

        await eventually(skipped)
        await services.database.execute("UPDATE trainings SET seen_at = seen_at - interval '15 s'")
        await services.publish(id)
        row = await services.until(id, "succeeded")
    assert (row["attempt"], row["model"]) == (2, VERSION)
    assert await services.epochs(id) == [1, 2, 3]


async def test_a_worker_waits_for_the_broker_and_touches_its_alive_file_when_connected(
    own: Worker, services: OtherServices
) -> None:
    broker_url = own.environment["BROKER_URL"]
    own.environment["BROKER_URL"] = "amqp://training:x@127.0.0.1:1/cifar"
    with own.running() as process:

        async def tried() -> bool:
            return "Cannot connect" in own.log_file.read_text()

        await eventually(tried)
        assert process.poll() is None
    assert not own.alive_file.exists()
    own.environment["BROKER_URL"] = broker_url
    with own.running():

        async def touched() -> bool:
            return own.alive_file.exists()

        await eventually(touched)


def test_a_worker_that_shuts_down_does_not_wait_for_an_unreachable_database(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    url, nowhere = "postgresql://x:x@127.0.0.1:1/x", "amqp://127.0.0.1:1"
    settings = Settings(database_url=SecretStr(url), broker_url=SecretStr(nowhere), models_path=tmp_path)
    runner = Runner(settings, Runs(url, stopping), ["false"], stopping)
    assert runner.run(uuid4()) == HANDED_BACK


def test_a_published_run_keeps_its_outcome_if_the_database_is_lost_before_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LostDatabase(Runs):
        def claim(self, id: UUID) -> Run | None:
            return Run(id, "fast", 0, None, None, "never", attempt=1)

        def unfinished(self) -> set[UUID]:
            raise Stopped

    url = SecretStr("postgresql://x:x@127.0.0.1:1/x")
    settings = Settings(database_url=url, broker_url=SecretStr("amqp://127.0.0.1:1"), models_path=tmp_path)
    runs = LostDatabase(url.get_secret_value(), threading.Event())
    monkeypatch.setattr(Runner, "_run_attempt", lambda _self, _run: "published v1")
    assert Runner(settings, runs, ["false"], threading.Event()).run(uuid4()) == "published v1"


def test_the_worker_does_not_load_torch() -> None:
    program = "import training.worker.app, training.worker.settings, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "False", done.stderr
