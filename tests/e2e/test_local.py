"""What `make up` says while it waits."""

from pathlib import Path
from typing import Any

import pytest

from scripts.local import __main__ as commands
from scripts.local import stack
from scripts.local.config import Config
from tests.conftest import eventually


def test_it_names_what_is_still_missing_and_goes_on_when_all_is_well(
    system: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = stack.fetch_health(system)
    down = {"status": "down", "components": {**whole["components"], "inference": {"status": "down"}}}
    reports: list[dict[str, Any]] = [{}, down, down, whole]
    monkeypatch.setattr(stack, "fetch_health", lambda _config: reports.pop(0))
    commands.wait_for_health(system)
    assert capsys.readouterr().out.splitlines() == ["waiting for backend", "waiting for inference"]


def change_schema(monkeypatch: pytest.MonkeyPatch, folder: Path, before: str, after: str) -> None:
    schema = stack.SCHEMA.read_text()
    assert before in schema
    (folder / "schema.sql").write_text(schema.replace(before, after))
    monkeypatch.setattr(stack, "SCHEMA", folder / "schema.sql")


def test_it_starts_on_no_database_that_was_made_by_other_sql(
    system: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_schema(monkeypatch, tmp_path, "octet_length(pixels) = 3072", "true")
    with pytest.raises(stack.SchemaChanged, match="remove that folder"):
        stack.apply_schema(system)


def test_another_comment_in_the_schema_is_no_other_sql(
    system: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_schema(monkeypatch, tmp_path, "-- The row is the truth", "-- It is")
    stack.apply_schema(system)


async def test_its_training_worker_is_heard(system: Config) -> None:
    async def heard() -> bool:
        training = stack.fetch_health(system)["components"]["training"]
        return training["status"] == "ok" and training["workers"][0]["name"] == "training@localhost"

    await eventually(heard)


def test_its_sample_is_classified(system: Config, capsys: pytest.CaptureFixture[str]) -> None:
    commands.show_sample(system)
    assert "cat.jpg is a cat" in capsys.readouterr().out
