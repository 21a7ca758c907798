"""The watcher finds versions, registers them, and serves the active one."""

import json
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from inference import watcher as watching
from tests.conftest import activate, eventually
from tests.inference.artifacts import OTHER, make_check, publish
from tests.inference.conftest import MakeWatcher, fetch, serving, settle


async def test_the_versions_in_the_folder_are_registered_with_their_cards_and_the_best_is_served(
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    publish(tmp_path, "v1", accuracy=0.8)
    publish(tmp_path, "v2", accuracy=0.9, pictures=3)
    publish(tmp_path, "v3", accuracy=0.7)
    watcher = make_watcher()
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
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    publish(tmp_path, "v1")
    watcher = make_watcher()
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
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "TICK_SECONDS", 60)
    publish(tmp_path, "v1")
    publish(tmp_path, "v2", accuracy=0.1)
    watcher = make_watcher()
    watcher.wait_for_model()
    watcher.start(lambda _: None)
    await activate(database, "v2")

    async def swapped() -> bool:
        return serving(watcher) == "v2"

    try:
        await eventually(swapped)  # long before the tick
    finally:
        watcher.stopping.set()
        await database.execute("NOTIFY models")


async def test_a_version_that_was_never_activated_is_served_if_no_other_loads(
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        publish(tmp_path, f"v{number}", activation="always")
    publish(tmp_path, "v4", activation="never")
    make_watcher().turn()
    for number in (1, 2, 3):
        (tmp_path / f"v{number}/model.onnx").write_bytes(b"x")
    watcher = make_watcher()
    watcher.turn()
    assert serving(watcher) == "v4"  # activated only now, as the only one left
    rows = await database.fetch("SELECT version FROM models WHERE error IS NOT NULL ORDER BY version")
    assert [row["version"] for row in rows] == ["v1", "v2", "v3"]


async def test_a_worker_without_a_model_waits_and_logs_it_once(
    make_watcher: MakeWatcher,
    database: asyncpg.Connection,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "active").write_text("v1\n")  # ignored: a version is a folder
    settle(publish(tmp_path, "v1", format="layers/2"))  # `settle` makes it look old: refused at once
    watcher = make_watcher()
    for _ in range(3):
        watcher.turn()
    assert watcher.classifier is None
    messages = [record.getMessage() for record in caplog.records]
    assert [text for text in messages if "no model that can be served" in text] == [
        f"{tmp_path} holds no model that can be served; serving nothing; the messages wait in the queue"
    ]
    publish(tmp_path, "v2")
    assert watcher.wait_for_model().version == "v2"
