"""Every service has only the rights that it needs, according to `docker compose config`."""

import json
import os
import subprocess
from typing import Any

import pytest

from scripts.local.config import REPOSITORY
from tests.compose.conftest import Compose

ALL = ["--profile", "*"]
HAVE_NO_HEALTH_CHECK = {"socket-proxy"}  # the health report shows its failures


@pytest.fixture(scope="module")
def config(compose: Compose) -> dict[str, Any]:
    return json.loads(compose(*ALL, "config", "--format", "json").stdout)


@pytest.fixture(scope="module")
def services(config: dict[str, Any]) -> dict[str, Any]:
    return config["services"]


def test_no_service_can_change_itself_or_gain_rights(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name


def test_every_service_has_limits(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert set(service["deploy"]["resources"]["limits"]) >= {"cpus", "memory", "pids"}, name


def test_every_service_is_restarted_and_all_but_the_socket_proxy_have_a_health_check(
    services: dict[str, Any],
) -> None:
    for name, service in services.items():
        if name not in HAVE_NO_HEALTH_CHECK:
            assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name


def test_only_the_proxy_publishes_a_port(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if service.get("ports")] == ["proxy"]


def test_the_proxy_reaches_neither_the_database_nor_the_docker_socket(services: dict[str, Any]) -> None:
    networks = {name: set(service["networks"]) for name, service in services.items()}
    assert not networks["proxy"] & networks["db"]
    assert not networks["proxy"] & networks["socket-proxy"]
    assert networks["socket-proxy"] & networks["backend"]
    reach_docker = {name for name, found in networks.items() if found & networks["socket-proxy"]}
    assert reach_docker == {"socket-proxy", "backend"}


def test_only_the_proxy_and_training_have_a_way_out(config: dict[str, Any]) -> None:
    """`front` is for the proxy, which publishes a port; `outside` is for training, which downloads."""
    ways_out = {name for name, network in config["networks"].items() if not network.get("internal")}
    members = {
        way: {name for name, service in config["services"].items() if way in service["networks"]}
        for way in ways_out
    }
    assert members == {"front": {"proxy"}, "outside": {"training"}}


def test_only_the_socket_proxy_mounts_the_docker_socket(services: dict[str, Any]) -> None:
    mounts = [
        (name, volume["read_only"])
        for name, service in services.items()
        for volume in service.get("volumes", ())
        if "docker.sock" in volume["source"]
    ]
    assert mounts == [("socket-proxy", True)]


def test_no_secret_is_in_the_configuration(compose: Compose, config: dict[str, Any]) -> None:
    shown = json.dumps(config)
    for secret in compose.secrets.iterdir():
        assert secret.read_text() not in shown, secret.name


def test_the_data_of_database_and_broker_are_in_volumes(services: dict[str, Any]) -> None:
    for name, target in (("db", "/var/lib/postgresql/data"), ("rabbitmq", "/var/lib/rabbitmq")):
        (volume,) = [volume for volume in services[name]["volumes"] if volume["target"] == target]
        assert volume["type"] == "volume"


def test_without_secrets_compose_stops_and_says_make_secrets(compose: Compose) -> None:
    command = ["docker", "compose", "-p", "cifar-none", "--env-file", os.devnull, "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode != 0
    assert "make secrets" in done.stderr


def test_the_services_in_compose_gpu_yaml_reserve_gpus_and_still_have_limits(compose: Compose) -> None:
    files = ["-f", "compose.yaml", "-f", "compose.gpu.yaml"]
    config = json.loads(compose(*files, *ALL, "config", "--format", "json").stdout)
    for name, capability in (("inference", "gpu"), ("training", "gpu"), ("backend", "utility")):
        resources = config["services"][name]["deploy"]["resources"]
        (device,) = resources["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", [capability]), name
        assert set(resources["limits"]) >= {"cpus", "memory", "pids"}, name


def test_stack_file_refuses_an_http_port_with_an_address(compose: Compose) -> None:
    command = [REPOSITORY / "scripts/stack-file", "--env-file", str(compose.env_file)]
    environment = os.environ | {"HTTP_PORT": "127.0.0.1:80"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "HTTP_PORT" in done.stderr


def test_swarm_accepts_the_services_without_a_profile(compose: Compose, services: dict[str, Any]) -> None:
    command = [REPOSITORY / "scripts/stack-file", "--env-file", str(compose.env_file)]
    stack = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
    command = ["docker", "stack", "config", "--compose-file", "-"]
    subprocess.run(command, input=stack, capture_output=True, text=True, check=True)
    deployed = json.loads(stack)["services"]
    assert set(deployed) == {name for name, service in services.items() if not service.get("profiles")}
    for name, service in deployed.items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert service["deploy"]["endpoint_mode"] == "dnsrr", name
    assert deployed["db"]["deploy"]["placement"]["constraints"] == ["node.role == manager"]
