"""Which versions the watcher refuses and why, and which it tries again later."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import asyncpg
import pytest
from onnx import TensorProto, helper

from tests.conftest import activate
from tests.inference.artifacts import OTHER, make_check, make_model, publish
from tests.inference.conftest import MakeWatcher, fetch, serving, settle


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
    make_watcher: MakeWatcher,
    database: asyncpg.Connection,
    tmp_path: Path,
) -> None:
    publish(tmp_path, "v1")
    folder = publish(tmp_path, "v2", activation="always")
    break_it(folder)
    settle(folder)
    watcher = make_watcher()
    watcher.turn()
    row = await fetch(database, "v2")
    assert words in row["error"]
    assert row["error"].endswith("in the card.")  # the end of NEXT_STEP
    assert row["activated_at"] is None
    assert serving(watcher) == "v1"


@pytest.mark.parametrize("card", ['{"name": "nul \\u0000"', '{"huge": 1e400'], ids=["nul", "huge"])
async def test_a_card_that_cannot_be_stored_is_refused(
    card: str, make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = publish(tmp_path)
    whole = (folder / "card.json").read_text()
    (folder / "card.json").write_text(f"{card}, {whole[1:]}")
    settle(folder)
    make_watcher().turn()
    row = await fetch(database, "v1")
    assert row["card"] == "{}"
    assert "refuses its card" in row["error"]


@pytest.mark.parametrize(
    "note",
    ['"\\u0000"', '"\\ud800"', "1e999", "[" * 900 + "]" * 900],
    ids=["nul", "surrogate", "huge", "deep"],
)
async def test_a_broken_version_with_an_unusual_card_is_refused_and_hides_no_other_version(
    note: str, make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = publish(tmp_path, "v1")
    whole = (folder / "card.json").read_text()
    (folder / "card.json").write_text(f'{{"note": {note}, {whole[1:]}')
    (folder / "model.onnx").write_bytes(b"broken")
    settle(folder)
    publish(tmp_path, "v2")
    watcher = make_watcher()
    watcher.turn()
    assert "SHA-256 differs" in (await fetch(database, "v1"))["error"]
    assert serving(watcher) == "v2"


async def test_a_deeply_nested_card_is_accepted_and_stored(
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = publish(tmp_path)
    whole = (folder / "card.json").read_text()
    (folder / "card.json").write_text('{"deep": ' + "[" * 900 + "]" * 900 + f", {whole[1:]}")
    settle(folder)
    make_watcher().turn()
    row = await fetch(database, "v1")
    assert row["error"] is None
    assert row["card"].count("[") > 900


async def test_a_reason_that_quotes_a_file_can_be_stored(
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    outputs = [helper.make_tensor_value_info("nul \0\n", TensorProto.FLOAT, ["batch"])]
    settle(publish(tmp_path, model=make_model(outputs=outputs)))
    make_watcher().turn()
    assert "its outputs are nul ?? float32 (batch)" in (await fetch(database, "v1"))["error"]


async def test_a_version_that_is_being_copied_is_not_refused(
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = publish(tmp_path)
    model = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(model[:500])
    watcher = make_watcher()
    watcher.turn()
    assert await fetch(database, "v1") is None
    (folder / "model.onnx").write_bytes(model)
    watcher.turn()
    assert (await fetch(database, "v1"))["error"] is None
    assert serving(watcher) == "v1"


@pytest.mark.parametrize("damage", ["changed", "gone", "replaced by another of the same name"])
async def test_a_version_damaged_after_its_registration_is_refused_and_the_old_one_still_serves(
    damage: str, make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    publish(tmp_path, "v1")
    folder = publish(tmp_path, "v2", accuracy=0.1)
    watcher = make_watcher()
    watcher.turn()
    assert serving(watcher) == "v1"
    if damage == "changed":
        (folder / "model.onnx").write_bytes(OTHER)
    elif damage == "replaced by another of the same name":
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


async def test_a_worker_with_an_empty_models_folder_refuses_no_version(
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = publish(tmp_path, "v1")
    make_watcher().turn()
    folder.rename(tmp_path / ".away")
    second = make_watcher()
    second.turn()
    assert serving(second) is None
    assert (await fetch(database, "v1"))["error"] is None


async def test_a_version_that_fails_because_of_the_machine_is_not_refused_and_is_tried_again_later(
    make_watcher: MakeWatcher, database: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise MemoryError("the machine has no memory left")

    publish(tmp_path, "v1")
    watcher = make_watcher()
    watcher.turn()
    publish(tmp_path, "v2", activation="always")
    with monkeypatch.context() as patch:
        patch.setattr(watcher.loader, "verify", fail)
        watcher.turn()
    assert await fetch(database, "v2") is None
    watcher.turn()  # too early for the next try
    assert await fetch(database, "v2") is None
    watcher._later.clear()
    watcher.turn()
    assert serving(watcher) == "v2"
