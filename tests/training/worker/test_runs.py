"""Claims and updates of runs in the real table: an attempt that has lost its run changes nothing."""

import threading
from collections.abc import Callable, Generator
from uuid import UUID

import asyncpg
import pytest

from scripts.local.config import Config
from tests.training.worker.harness import OtherServices
from training.worker.run import Lost, Run
from training.worker.runs import FIGURES, Runs

Update = Callable[[Runs, Run], None]
UPDATES: dict[str, Update] = {
    "check": lambda runs, run: runs.check(run),
    "store_report": lambda runs, run: runs.store_report(run, epochs=7, device="another", phase="reading"),
    "epoch": lambda runs, run: runs.add_epoch(run, {"number": 1} | dict.fromkeys(FIGURES, 1.0)),
    "succeed": lambda runs, run: runs.succeed(run, "2026-01-01-00000000"),
    "fail": lambda runs, run: runs.fail(run, "Training crashed", "It did."),
    "hand back": lambda runs, run: runs.hand_back(run),
}


@pytest.fixture
def runs(servers: Config) -> Generator[Runs]:
    runs = Runs(servers.database_url("training"), threading.Event())
    yield runs
    runs.close()


async def claim(runs: Runs, services: OtherServices) -> tuple[UUID, Run]:
    id = await services.add("fast")
    run = runs.claim(id)
    assert run is not None and run.attempt == 1
    return id, run


async def everything(services: OtherServices, id: UUID) -> tuple[asyncpg.Record, list[int]]:
    return await services.row(id), await services.epochs(id)


@pytest.mark.parametrize("update", UPDATES)
async def test_an_attempt_that_owns_its_run_may_update_it(
    update: str, runs: Runs, services: OtherServices
) -> None:
    _, run = await claim(runs, services)
    UPDATES[update](runs, run)


@pytest.mark.parametrize("lost", ["claimed again", "canceled", "removed"])
@pytest.mark.parametrize("update", UPDATES)
async def test_an_attempt_that_has_lost_its_run_changes_nothing(
    update: str, lost: str, runs: Runs, services: OtherServices
) -> None:
    id, run = await claim(runs, services)
    if lost == "claimed again":
        await services.database.execute("UPDATE trainings SET seen_at = seen_at - interval '16 s'")
        again = runs.claim(id)
        assert again is not None and again.attempt == 2
    elif lost == "canceled":
        await services.database.execute("UPDATE trainings SET status = 'canceled', completed_at = now()")
    else:
        await services.database.execute("DELETE FROM trainings")
    before = await everything(services, id) if lost != "removed" else None
    with pytest.raises(Lost):
        UPDATES[update](runs, run)
    assert before is None or await everything(services, id) == before


async def test_a_check_records_every_five_seconds_that_the_worker_is_alive(
    runs: Runs, services: OtherServices
) -> None:
    id, run = await claim(runs, services)
    claimed_at = (await services.row(id))["seen_at"]
    runs.check(run)
    assert (await services.row(id))["seen_at"] == claimed_at
    await services.database.execute("UPDATE trainings SET seen_at = seen_at - interval '6 s'")
    runs.check(run)
    assert (await services.row(id))["seen_at"] >= claimed_at


async def test_a_run_of_a_live_worker_and_a_canceled_run_are_not_claimed(
    runs: Runs, services: OtherServices
) -> None:
    id, _ = await claim(runs, services)
    assert runs.claim(id) is None
    await services.database.execute("UPDATE trainings SET status = 'canceled', completed_at = now()")
    assert runs.claim(id) is None
