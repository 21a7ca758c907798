"""What `make up` says while it waits."""

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


async def test_its_training_worker_is_heard(system: Config) -> None:
    async def heard() -> bool:
        training = stack.fetch_health(system)["components"]["training"]
        return training["status"] == "ok" and training["workers"][0]["name"] == "training@localhost"

    await eventually(heard)


def test_its_sample_is_classified(system: Config, capsys: pytest.CaptureFixture[str]) -> None:
    commands.show_sample(system)
    assert "cat.jpg is a cat" in capsys.readouterr().out
