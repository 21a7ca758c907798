"""`make secrets` creates the secrets that compose.yaml names, and keeps existing ones."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.local.config import REPOSITORY


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(REPOSITORY / "scripts/make-secrets"), str(folder / "secrets"), str(folder / "env")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (folder / "secrets").iterdir()}


def test_exactly_the_secrets_in_compose_yaml_are_made(tmp_path: Path) -> None:
    make(tmp_path)
    compose = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    assert set(read(tmp_path)) == set(compose["secrets"])


def test_missing_secrets_are_added_to_existing_ones(tmp_path: Path) -> None:
    make(tmp_path)
    before = read(tmp_path)
    for name in ("broker_flower_password", "flower_broker_url"):
        (tmp_path / "secrets" / name).unlink()
    assert make(tmp_path).returncode == 0
    after = read(tmp_path)
    assert after["broker_flower_password"] in after["flower_broker_url"]
    assert {name for name in before if before[name] != after[name]} == {
        "broker_flower_password",
        "flower_broker_url",
    }


@pytest.mark.parametrize("password", ["a/b", "a&b", 'a"b', "a'b", "a@b", "a b", "ä"])
def test_a_password_that_would_need_quoting_is_refused(tmp_path: Path, password: str) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/monitor_password").write_text(password)
    done = make(tmp_path)
    assert done.returncode == 1
    assert "monitor_password: a password may contain only letters, digits, _ and -" in done.stderr
    assert set(read(tmp_path)) == {"monitor_password"}


def test_a_password_chosen_by_the_user_is_kept(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/broker_worker_password").write_text("My_own-1")
    assert make(tmp_path).returncode == 0
    assert read(tmp_path)["worker_broker_url"] == "amqp://worker:My_own-1@rabbitmq:5672/cifar"


def test_docker_fills_in_every_password_of_the_broker_definitions() -> None:
    wanted = set(
        re.findall(r"\$\{(\w+)_PASSWORD\}", (REPOSITORY / "broker/definitions.template.json").read_text())
    )
    (users,) = re.findall(
        r"^for user in (.*); do$", (REPOSITORY / "broker/entrypoint").read_text(), re.MULTILINE
    )
    assert {user.upper() for user in users.split()} == wanted
