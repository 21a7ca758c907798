"""`make up`: what it says while it waits, and what it makes of a machine that is not as it should be."""

import errno
import os
import resource
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.local import __main__ as commands
from scripts.local import files, stack
from scripts.local.config import Config, SetupError, find_free_ports, has_ipv6, port_is_free, prepare
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


def test_a_second_time_it_looks_at_the_schema_too(
    system: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "STATE", system.state)
    assert commands.up() == 0
    said = capsys.readouterr().out
    assert said.startswith("it runs already\n")
    assert "cat.jpg is a cat" in said
    change_schema(monkeypatch, tmp_path, "octet_length(pixels) = 3072", "true")
    with pytest.raises(stack.SchemaChanged):
        commands.up()
    assert stack.running_pid(system.state)


def test_its_processes_may_have_as_many_connections_as_there_may_be_streams(system: Config) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = Path(f"/proc/{stack.running_pid(system.state)}/limits").read_text()
    soft = next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files"))
    assert int(soft) >= min(hard, 20480)


async def test_its_training_worker_is_heard(system: Config) -> None:
    async def heard() -> bool:
        training = stack.fetch_health(system)["components"]["training"]
        return training["status"] == "ok" and training["workers"][0]["name"] == "training@localhost"

    await eventually(heard)


def test_its_sample_is_classified(system: Config, capsys: pytest.CaptureFixture[str]) -> None:
    commands.show_sample(system)
    assert "cat.jpg is a cat" in capsys.readouterr().out


def test_what_a_killed_supervisor_left_is_ended_and_a_new_start_goes_well(tmp_path: Path) -> None:
    (port,) = find_free_ports(1)
    programs = ("epmd", "postgres", "nginx")
    config = stack.start(tmp_path, port, programs)
    ports = [port, config.ports["epmd"], config.ports["postgres"]]

    def kill_supervisor() -> None:
        stack.wait_until(lambda: not any(map(port_is_free, ports)), 20, "the programs")
        pid = stack.running_pid(tmp_path)
        assert pid
        os.kill(pid, signal.SIGKILL)
        stack.wait_until(lambda: stack.running_pid(tmp_path) is None, 5, "the kill")

    try:
        kill_supervisor()
        assert stack.left_behind(tmp_path)
        assert stack.left_behind(tmp_path.parent) == []
        assert stack.start(tmp_path, port, programs).ports == config.ports
        kill_supervisor()
    finally:
        assert stack.stop(tmp_path)
    assert all(map(port_is_free, ports))
    assert not stack.stop(tmp_path)


def install_postgres(folder: Path, version: str) -> Path:
    program = folder / version / "bin/postgres"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}.7 (Debian {version}.7-1)'\n")
    program.chmod(0o755)
    return program


def test_a_history_is_read_by_the_postgresql_that_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "POSTGRES_FOLDERS", [f"{tmp_path}/*/bin"])
    old, new = install_postgres(tmp_path, "15"), install_postgres(tmp_path, "17")
    assert files.postgres_server(tmp_path) == str(new)
    (tmp_path / "PG_VERSION").write_text("15\n")
    assert files.postgres_server(tmp_path) == str(old)
    (tmp_path / "PG_VERSION").write_text("16\n")
    with pytest.raises(SetupError, match="postgresql-16"):
        files.postgres_server(tmp_path)


@pytest.mark.parametrize("port", ["x", "0", "65536", "127.0.0.1:80", "-1"])
def test_what_is_no_port_is_said_to_be_none(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", port)
    with pytest.raises(SetupError, match="HTTP_PORT is"):
        commands.read_port()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_it_answers_under_the_address_of_ipv6(system: Config) -> None:
    assert httpx.get(f"http://[::1]:{system.http_port}/api/health/live").status_code == 200


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_port_that_is_taken_under_ipv6_alone_is_taken(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", 0))
        with pytest.raises(SetupError, match="in use by another program"):
            prepare(tmp_path, other.getsockname()[1])


class WithoutIPv6(socket.socket):
    """What a machine gives whose IPv6 is switched off, or not built in."""

    built_in = True

    def __init__(self, family: int = socket.AF_INET, *rest: int) -> None:
        if family == socket.AF_INET6 and not self.built_in:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *rest)

    def bind(self, address: Any, /) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        super().bind(address)


@pytest.mark.parametrize("built_in", [True, False])
def test_a_machine_without_ipv6_does_without(
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


class ForRootAlone(socket.socket):
    """What a user meets at port 80; the tests may run as root."""

    def bind(self, _address: object, /) -> None:
        raise PermissionError(13, "Permission denied")


def test_a_port_for_root_alone_is_not_called_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", ForRootAlone)
    with pytest.raises(SetupError, match="port 80 may be opened by root alone"):
        prepare(tmp_path, 80)


@pytest.mark.parametrize("name", ["my flowers", "100%", 'a"b', "a$b", "a;b"])
def test_a_folder_whose_name_the_servers_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    (port,) = find_free_ports(1)
    with pytest.raises(SetupError, match="without spaces"):
        prepare(tmp_path / name, port)
    assert not (tmp_path / name).exists()


def test_another_user_is_told_whose_the_system_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_state: Path) -> bool:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(commands, "STATE", tmp_path)
    monkeypatch.setattr(stack, "stop", refuse)
    monkeypatch.setattr("sys.argv", ["scripts.local", "down"])
    assert commands.main() == 1
    assert capsys.readouterr().err.startswith(f"make down: {tmp_path.owner()} started it here")


def test_a_sample_that_gets_no_answer_is_said_in_words() -> None:
    (port,) = find_free_ports(1)
    config = Config(Path(), port, {}, {})
    with pytest.raises(SetupError, match="the sample got no answer"):
        commands.classify(config, commands.SAMPLE)
