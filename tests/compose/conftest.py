"""The system under Docker Compose: a project of its own, with its own secrets, port and volumes.

Needs a Docker Engine: `make compose-test` runs these tests; `make test` leaves them out.
"""

import json
import os
import re
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.local.config import REPOSITORY, find_free_ports

PROJECT = "cifar-test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("docker")


@dataclass(frozen=True)
class Compose:
    """`docker compose` for one project."""

    env_file: Path
    secrets: Path
    port: int

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["docker", "compose", "-p", PROJECT, "--env-file", str(self.env_file), *arguments]
        environment = os.environ | {"HTTP_PORT": str(self.port)}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done

    def containers(self) -> list[dict[str, Any]]:
        """The project's containers, stopped ones included."""
        lines = self("ps", "--all", "--format", "json").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def log(self, service: str) -> list[str]:
        """The lines that a service's containers have written, without Compose's escape sequences."""
        shown = self("logs", "--no-color", "--no-log-prefix", service).stdout
        return [re.sub(r"\x1b\[\w*", "", line) for line in shown.splitlines()]

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}"


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """The project, not started."""
    folder = tmp_path_factory.mktemp("compose")
    (port,) = find_free_ports(1)
    made = [str(folder / "secrets"), str(folder / "env")]
    subprocess.run([REPOSITORY / "scripts/make-secrets", *made], check=True, stdout=subprocess.DEVNULL)
    return Compose(folder / "env", folder / "secrets", port)


@pytest.fixture(scope="session")
def running(compose: Compose) -> Generator[Compose]:
    """The project, built, started and healthy. Its volumes are removed at the end."""
    compose("build")
    try:
        compose("up", "--wait", "--wait-timeout", "120")
        yield compose
    except BaseException:
        print(compose("logs", "--tail", "50", check=False).stdout)
        raise
    finally:
        compose("down", "--volumes", "--timeout", "20", check=False)
