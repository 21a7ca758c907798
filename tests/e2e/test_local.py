"""`make up` and `make down`: waiting, changed schemas, processes left behind, and unusual machines."""

import errno
import resource
import socket
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from scripts.local import __main__ as commands
from scripts.local import files, programs, stack
from scripts.local.config import Config, SetupError, find_free_ports, has_ipv6, port_is_free, prepare
from tests.conftest import eventually


def test_waiting_prints_what_is_missing_and_ends_when_the_system_is_healthy(
    system: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = stack.wait_until(lambda: stack.fetch_health(system), 30, "a report")
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


def test_a_database_made_by_another_schema_is_refused(
    system: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_schema(monkeypatch, tmp_path, "octet_length(pixels) = 3072", "true")
    with pytest.raises(stack.SchemaChanged, match="remove that folder"):
        stack.apply_schema(system)


def test_a_changed_comment_in_the_schema_is_accepted(
    system: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_schema(monkeypatch, tmp_path, "-- ", "-- In other words: ")
    stack.apply_schema(system)


def test_a_second_start_checks_the_schema_again(
    system: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "STATE", system.state)
    assert commands.up() == 0
    said = capsys.readouterr().out
    assert said.startswith("the system is already running\n")
    assert "cat.jpg is a cat" in said
    change_schema(monkeypatch, tmp_path, "octet_length(pixels) = 3072", "true")
    with pytest.raises(stack.SchemaChanged):
        commands.up()
    assert stack.find_supervisor(system.state)


def test_the_limit_of_open_files_is_at_least_20480_if_the_hard_limit_permits(system: Config) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    supervisor = stack.find_supervisor(system.state)
    assert supervisor
    soft, _ = supervisor.rlimit(psutil.RLIMIT_NOFILE)
    assert soft >= (20480 if hard == resource.RLIM_INFINITY else min(hard, 20480))


async def test_the_training_worker_is_in_the_health_report(system: Config) -> None:
    async def heard() -> bool:
        health = stack.fetch_health(system)
        if not health:  # a busy machine did not answer in time
            return False
        training = health["components"]["training"]
        return training["status"] == "ok" and training["workers"][0]["name"] == "training@localhost"

    await eventually(heard)


def test_the_sample_is_classified(system: Config, capsys: pytest.CaptureFixture[str]) -> None:
    commands.show_sample(system)
    assert "cat.jpg is a cat" in capsys.readouterr().out


def test_start_or_stop_ends_processes_that_a_killed_supervisor_has_left(tmp_path: Path) -> None:
    (port,) = find_free_ports(1)
    names = ("epmd", "postgres", "nginx")
    config = stack.start(tmp_path, port, names)
    ports = [port, config.ports["epmd"], config.ports["postgres"]]

    def kill_supervisor() -> None:
        stack.wait_until(lambda: not any(map(port_is_free, ports)), 20, "the programs")
        supervisor = stack.find_supervisor(tmp_path)
        assert supervisor
        supervisor.kill()
        stack.wait_until(lambda: stack.find_supervisor(tmp_path) is None, 5, "the kill")

    try:
        kill_supervisor()
        assert stack.left_behind(tmp_path)
        assert stack.left_behind(tmp_path.parent) == []
        assert stack.start(tmp_path, port, names).ports == config.ports
        kill_supervisor()
    finally:
        assert stack.stop(tmp_path)
    assert all(map(port_is_free, ports))
    assert not stack.stop(tmp_path)


def test_a_second_make_up_changes_nothing_while_the_first_starts_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "STATE", tmp_path)
    with stack.claimed(tmp_path), pytest.raises(SetupError, match="another `make up`"):
        commands.up()
    assert [path.name for path in tmp_path.iterdir()] == ["starting.lock"]
    with stack.claimed(tmp_path):
        pass


def install_postgres(folder: Path, version: str) -> Path:
    program = folder / version / "bin/postgres"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}.7 (Debian {version}.7-1)'\n")
    program.chmod(0o755)
    return program


def test_a_database_runs_with_the_postgresql_version_that_created_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "FOLDERS", [f"{tmp_path}/*/bin"])
    monkeypatch.setenv("PATH", "")  # it may lead to a postgres of this machine
    old, new = install_postgres(tmp_path, "15"), install_postgres(tmp_path, "17")
    assert programs.postgres_server(tmp_path) == str(new)
    (tmp_path / "PG_VERSION").write_text("15\n")
    assert programs.postgres_server(tmp_path) == str(old)
    (tmp_path / "PG_VERSION").write_text("16\n")
    with pytest.raises(SetupError, match="postgresql-16"):
        programs.postgres_server(tmp_path)


def test_a_program_is_found_in_a_folder_of_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = install_postgres(tmp_path, "17")
    monkeypatch.setattr(programs, "FOLDERS", [])
    monkeypatch.setenv("PATH", f"relative:{tmp_path}:{postgres.parent}")
    assert programs.find_program("postgres") == str(postgres)
    with pytest.raises(SetupError, match="nginx is missing"):
        programs.find_program("nginx")


@pytest.mark.parametrize("port", ["x", "0", "65536", "127.0.0.1:80", "-1"])
def test_an_invalid_http_port_is_refused(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", port)
    with pytest.raises(SetupError, match="HTTP_PORT is"):
        commands.read_port()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_the_system_answers_under_ipv6(system: Config) -> None:
    assert httpx.get(f"http://[::1]:{system.http_port}/api/health/live").status_code == 200


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_port_in_use_only_under_ipv6_counts_as_in_use(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", 0))
        with pytest.raises(SetupError, match="another program uses port"):
            prepare(tmp_path, other.getsockname()[1])


class WithoutIPv6(socket.socket):
    """A socket on a machine whose IPv6 is switched off, or whose kernel has none."""

    built_in = True  # False: the kernel has no IPv6

    def __init__(self, family: int = socket.AF_INET, *rest: int) -> None:
        if family == socket.AF_INET6 and not self.built_in:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *rest)

    def bind(self, address: Any, /) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        super().bind(address)


@pytest.mark.parametrize("built_in", [True, False])
def test_a_machine_without_ipv6_listens_on_ipv4_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, built_in: bool
) -> None:
    monkeypatch.setattr(WithoutIPv6, "built_in", built_in)
    monkeypatch.setattr(socket, "socket", WithoutIPv6)
    (port,) = find_free_ports(1)
    config = prepare(tmp_path, port)
    (tmp_path / "nginx").mkdir()
    files.write_nginx(config)
    site = (tmp_path / "nginx/site.conf").read_text()
    assert f"listen 127.0.0.1:{port};" in site and "listen [::1]" not in site


class WithoutPermission(socket.socket):
    """A socket that cannot open any port, as if an ordinary user tried to open port 80.

    A real socket can open port 80 if the tests run as root.
    """

    def bind(self, _address: object, /) -> None:
        raise PermissionError(13, "Permission denied")


def test_the_error_says_that_only_root_may_open_a_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", WithoutPermission)
    with pytest.raises(SetupError, match="only root may open port 80"):
        prepare(tmp_path, 80)


@pytest.mark.parametrize("name", ["my flowers", "100%", 'a"b', "a$b", "a;b"])
def test_a_path_that_the_servers_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    (port,) = find_free_ports(1)
    with pytest.raises(SetupError, match="path of letters, digits"):
        prepare(tmp_path / name, port)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("error", [PermissionError(1, "Operation not permitted"), psutil.AccessDenied(1)])
def test_another_user_is_told_who_started_the_system(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_state: Path) -> bool:
        raise error

    monkeypatch.setattr(commands, "STATE", tmp_path)
    monkeypatch.setattr(stack, "stop", refuse)
    monkeypatch.setattr("sys.argv", ["scripts.local", "down"])
    assert commands.main() == 1
    assert capsys.readouterr().err.startswith(
        f"make down: only {tmp_path.owner()}, who started the system here"
    )


def test_a_sample_without_an_answer_is_a_setup_error() -> None:
    (port,) = find_free_ports(1)
    config = Config(Path(), port, {}, {})
    with pytest.raises(SetupError, match="the upload of the sample got no answer"):
        commands.classify(config, commands.SAMPLE)
