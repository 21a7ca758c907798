"""The watcher finds, verifies, registers and swaps versions, also when a version or a server fails."""

import json
import os
import shutil
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from onnx import TensorProto, helper

from inference import watcher as watching
from inference.classifier import Classifier, Loader
from inference.registry import Registry
from inference.watcher import Watcher
from scripts.local.config import Config
from tests.conftest import activate, away, eventually
from tests.inference.artifacts import make_check, make_model, make_tensors, make_weights, publish

BATCH = 4
OTHER = make_model(tensors=make_tensors(make_weights(1)))

Make = Callable[..., Watcher]


@pytest.fixture
def make(servers: Config, tmp_path: Path) -> Generator[Make]:
    """Makes watchers of the folder `tmp_path`, and stops them after the test."""
    made: list[Watcher] = []

    def make(url: str | None = None) -> Watcher:
        registry = Registry(url or servers.database_url("worker"))
        made.append(Watcher(registry, tmp_path, Loader(cpu_threads=1, max_batch_size=BATCH)))
        return made[-1]

    yield make
    for watcher in made:
        watcher.stop()
        watcher.join()
        watcher.registry.disconnect()


def settle(folder: Path) -> None:
    """Set the time of the last change back by a minute."""
    then = time.time() - 60
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


async def fetch(database: asyncpg.Connection, version: str) -> Any:
    return await database.fetchrow("SELECT * FROM models WHERE version = $1", version)


def serving(watcher: Watcher) -> str | None:
    return watcher.classifier and watcher.classifier.version


async def test_the_versions_in_the_folder_are_registered_with_their_cards_and_the_best_is_served(
    make: Make, database: asyncpg.Connection, tmp_path: Path
) -> None:
    publish(tmp_path, "v1", accuracy=0.8)
    publish(tmp_path, "v2", accuracy=0.9, pictures=3)
    publish(tmp_path, "v3", accuracy=0.7)
    watcher = make()
    assert watcher.wait_for_model().version == "v2"
    rows = await database.fetch("SELECT * FROM models ORDER BY found_at")
    assert [(row["version"], bool(row["activated_at"]), row["error"]) for row in rows] == [
        ("v1", True, None),
        ("v2", True, None),
        ("v3", False, None),
    ]
    assert json.loads(rows[1]["card"])["pictures"] == 3
    assert rows[1]["served_at"] is None  # loaded, but the worker does not consume yet


async def test_a_new_version_is_found_and_served_and_the_old_one_can_be_activated_again(
    make: Make, database: asyncpg.Connection, tmp_path: Path
) -> None:
    publish(tmp_path, "v1")
    watcher = make()
    served: list[str] = []
    watcher.wait_for_model()
    watcher.start(lambda classifier: served.append(classifier.version))

    async def is_served(version: str) -> bool:
        row = await fetch(database, version)
        return bool(row and row["served_at"] and row["served_at"] >= row["activated_at"])

    await eventually(partial(is_served, "v1"), 30)
    publish(tmp_path, ".partial", version="v2", model=OTHER, check=make_check(OTHER), accuracy=0.95)
    (tmp_path / ".partial").rename(tmp_path / "v2")
    await eventually(partial(is_served, "v2"), 30)
    await activate(database, "v1")
    await eventually(partial(is_served, "v1"), 30)
    assert served == ["v2", "v1"]
    await activate(database, "v1")  # again, while it is served
    await eventually(partial(is_served, "v1"), 30)
    assert served == ["v2", "v1"]


async def test_an_activation_takes_effect_at_once(
    make: Make, database: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "TICK_SECONDS", 60)
    publish(tmp_path, "v1")
    publish(tmp_path, "v2", accuracy=0.1)
    watcher = make()
    watcher.wait_for_model()
    watcher.start(lambda _: None)
    await activate(database, "v2")

    async def swapped() -> bool:
        return serving(watcher) == "v2"

    try:
        await eventually(swapped, 5)
    finally:
        watcher.stop()
        await database.execute("NOTIFY models")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "card.json").unlink(), "card.json cannot be read: No such file"),
        (lambda folder: (folder / "card.json").write_text("{"), "card.json is not JSON"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"x"), "SHA-256 differs"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx cannot be read"),
    ],
)
async def test_a_broken_version_is_refused_with_a_reason_and_a_next_step(
    break_it: Callable[[Path], object],
    words: str,
    make: Make,
    database: asyncpg.Connection,
    tmp_path: Path,
) -> None:
    publish(tmp_path, "v1")
    folder = publish(tmp_path, "v2", activation="always")
    break_it(folder)
    settle(folder)
    watcher = make()
    watcher.turn()
    row = await fetch(database, "v2")
    assert words in row["error"]
    assert row["error"].endswith("in the card.")
    assert row["activated_at"] is None
    assert serving(watcher) == "v1"


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ('{"name": "nul \\u0000"', "refuses its card"),
        ('{"huge": 1e400', "refuses its card|nested|Out of range|not JSON"),
    ],
    ids=["nul", "huge"],
)
async def test_a_card_that_cannot_be_stored_is_refused(
    card: str, words: str, make: Make, database: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = publish(tmp_path)
    whole = (folder / "card.json").read_text()
    (folder / "card.json").write_text(f"{card}, {whole[1:]}")
    settle(folder)
    make().turn()
    row = await fetch(database, "v1")
    assert row["card"] == "{}"
    assert any(word in row["error"] for word in words.split("|"))


async def test_a_deeply_nested_card_is_stored_unchanged(
    make: Make, database: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = publish(tmp_path)
    whole = (folder / "card.json").read_text()
    (folder / "card.json").write_text('{"deep": ' + "[" * 900 + "]" * 900 + f", {whole[1:]}")
    settle(folder)
    make().turn()
    row = await fetch(database, "v1")
    assert row["error"] is None
    assert row["card"].count("[") > 900


async def test_a_reason_that_quotes_a_file_can_be_stored(
    make: Make, database: asyncpg.Connection, tmp_path: Path
) -> None:
    outputs = [helper.make_tensor_value_info("nul \0\n", TensorProto.FLOAT, ["batch"])]
    settle(publish(tmp_path, model=make_model(outputs=outputs)))
    make().turn()
    assert "its outputs are nul ?? float32 (batch)" in (await fetch(database, "v1"))["error"]


async def test_a_version_that_is_being_copied_is_not_refused(
    make: Make, database: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = publish(tmp_path)
    model = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(model[:500])
    watcher = make()
    watcher.turn()
    assert await fetch(database, "v1") is None
    (folder / "model.onnx").write_bytes(model)
    watcher.turn()
    assert (await fetch(database, "v1"))["error"] is None
    assert serving(watcher) == "v1"


@pytest.mark.parametrize("damage", ["changed", "gone", "another of its name"])
async def test_a_version_damaged_after_its_registration_is_refused_and_the_old_one_still_serves(
    damage: str, make: Make, database: asyncpg.Connection, tmp_path: Path
) -> None:
    publish(tmp_path, "v1")
    folder = publish(tmp_path, "v2", accuracy=0.1)
    watcher = make()
    watcher.turn()
    assert serving(watcher) == "v1"
    if damage == "changed":
        (folder / "model.onnx").write_bytes(OTHER)
    elif damage == "another of its name":
        publish(tmp_path, "another", version="v2", model=OTHER, check=make_check(OTHER))
        shutil.rmtree(folder)
        (tmp_path / "another").rename(folder)
    else:
        folder.rename(tmp_path / ".away")
    before = watcher.classifier
    await activate(database, "v2")
    watcher.turn()
    assert "can no longer be loaded" in (await fetch(database, "v2"))["error"]
    assert watcher.classifier is before
    assert watcher.registry.look([]).active == "v1"


async def test_a_worker_without_a_models_folder_refuses_no_version(
    make: Make, database: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = publish(tmp_path, "v1")
    make().turn()
    folder.rename(tmp_path / ".away")
    lost = make()
    lost.turn()
    assert serving(lost) is None
    assert (await fetch(database, "v1"))["error"] is None


async def test_a_worker_that_starts_serves_the_newest_version_that_still_loads(
    make: Make, database: asyncpg.Connection, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        publish(tmp_path, f"v{number}", activation="always")
    publish(tmp_path, "v4", activation="never")
    make().turn()
    for number in (1, 2, 3):
        (tmp_path / f"v{number}/model.onnx").write_bytes(b"x")
    watcher = make()
    watcher.turn()
    assert serving(watcher) == "v4"  # never activated, but the only one left
    rows = await database.fetch("SELECT version FROM models WHERE error IS NOT NULL ORDER BY version")
    assert [row["version"] for row in rows] == ["v1", "v2", "v3"]


async def test_a_worker_without_a_model_waits_and_logs_it_once(
    make: Make,
    database: asyncpg.Connection,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "active").write_text("v1\n")
    settle_me = publish(tmp_path, "v1", format="layers/2")
    settle(settle_me)
    watcher = make()
    for _ in range(3):
        watcher.turn()
    assert watcher.classifier is None
    told = [record.getMessage() for record in caplog.records]
    assert [text for text in told if "no model that can be served" in text] == [
        f"{tmp_path} holds no model that can be served; serving nothing; the messages wait in the queue"
    ]
    publish(tmp_path, "v2")
    assert watcher.wait_for_model().version == "v2"


async def test_an_error_of_the_machine_refuses_no_version(
    make: Make, database: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Classifier:
        raise MemoryError("the machine has no memory left")

    publish(tmp_path, "v1")
    watcher = make()
    watcher.turn()
    publish(tmp_path, "v2", activation="always")
    with monkeypatch.context() as patch:
        patch.setattr(watcher.loader, "verify", fail)
        watcher.turn()
    assert await fetch(database, "v2") is None
    watcher.turn()  # too early for the next try
    assert await fetch(database, "v2") is None
    monkeypatch.setattr(watching, "LATER_SECONDS", 0)
    watcher._later.clear()
    watcher.turn()
    assert serving(watcher) == "v2"


async def test_a_worker_serves_without_the_database_and_swaps_when_it_is_back(
    make: Make, database: asyncpg.Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, "v1")
    publish(tmp_path, "v2", accuracy=0.1)
    watcher = make()
    watcher.wait_for_model()
    watcher.start(lambda _: None)

    async def complained() -> bool:
        return any("cannot be read" in record.getMessage() for record in caplog.records)

    async def swapped() -> bool:
        row = await fetch(database, "v2")
        return serving(watcher) == "v2" and row["served_at"] is not None

    async with away(database):
        await activate(database, "v2")
        await eventually(complained)
        assert serving(watcher) == "v1"
    await eventually(swapped)


async def test_a_swap_succeeds_if_the_database_connection_breaks_during_it(
    make: Make, database: asyncpg.Connection, tmp_path: Path
) -> None:
    publish(tmp_path, "v1")
    publish(tmp_path, "v2", accuracy=0.1)
    watcher = make()
    watcher.turn()

    def serve(_: Classifier) -> None:
        watcher.registry._open().close()  # before the refusal can be written

    watcher._serve = serve
    await activate(database, "v2")
    watcher.turn()
    assert serving(watcher) == "v2"
    assert (await fetch(database, "v2"))["served_at"] is None
    watcher.turn()
    assert (await fetch(database, "v2"))["served_at"] is not None


def test_a_worker_that_waits_for_the_database_can_be_stopped(make: Make) -> None:
    watcher = make("postgresql://x:x@127.0.0.1:1/x")
    watcher.start(lambda _: None)
    watcher.stop()
    watcher.join()
    assert not watcher._thread.is_alive()
