"""Claims of runs against the real table: what an attempt says that has lost its run changes nothing."""

import threading
from collections.abc import Callable, Generator
from uuid import UUID

import asyncpg
import pytest

from scripts.local.config import Config
from tests.training.harness import Trainings
from training.errors import Lost
from training.runs import FIGURES, Database, Run

Say = Callable[[Database, Run], None]
SAID: dict[str, Say] = {
    "look": lambda database, run: database.look(run),
    "seen": lambda database, run: database.seen(run),
    "describe": lambda database, run: database.describe(run, epochs=7, device="another", phase="reading"),
    "epoch": lambda database, run: database.add_epoch(run, {"number": 1} | dict.fromkeys(FIGURES, 1.0)),
    "succeed": lambda database, run: database.succeed(run, "2026-01-01-00000000"),
    "fail": lambda database, run: database.fail(run, "Training crashed", "It did."),
    "hand back": lambda database, run: database.hand_back(run),
}


@pytest.fixture
def runs(servers: Config) -> Generator[Database]:
    runs = Database(servers.database_url("training"), threading.Event())
    yield runs
    runs.close()


async def claim(runs: Database, trainings: Trainings) -> tuple[UUID, Run]:
    id = await trainings.add("fast")
    run = runs.claim(id)
    assert run is not None and run.attempt == 1
    return id, run


async def everything(trainings: Trainings, id: UUID) -> tuple[asyncpg.Record, list[int]]:
    return await trainings.row(id), await trainings.epochs(id)


@pytest.mark.parametrize("said", SAID)
async def test_what_an_attempt_says_counts_while_the_run_is_its_own(
    said: str, runs: Database, trainings: Trainings
) -> None:
    _, run = await claim(runs, trainings)
    SAID[said](runs, run)


@pytest.mark.parametrize("lost", ["claimed again", "canceled", "removed"])
@pytest.mark.parametrize("said", SAID)
async def test_what_an_attempt_says_that_has_lost_its_run_changes_nothing(
    said: str, lost: str, runs: Database, trainings: Trainings
) -> None:
    id, run = await claim(runs, trainings)
    if lost == "claimed again":
        await trainings.database.execute("UPDATE trainings SET seen_at = seen_at - interval '16 s'")
        again = runs.claim(id)
        assert again is not None and again.attempt == 2
    elif lost == "canceled":
        await trainings.database.execute("UPDATE trainings SET status = 'canceled', completed_at = now()")
    else:
        await trainings.database.execute("DELETE FROM trainings")
    before = await everything(trainings, id) if lost != "removed" else None
    with pytest.raises(Lost):
        SAID[said](runs, run)
    assert before is None or await everything(trainings, id) == before


async def test_a_run_that_another_worker_has_is_not_claimed(runs: Database, trainings: Trainings) -> None:
    id, _ = await claim(runs, trainings)
    assert runs.claim(id) is None
    await trainings.database.execute("UPDATE trainings SET status = 'canceled', completed_at = now()")
    assert runs.claim(id) is None
