"""The configuration of the local system: state folder, ports, secrets and addresses."""

import json
import re
import secrets
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_REQUEST_BYTES = 64 * 2**20
DATABASE_USERS = ("backend", "worker", "training")
BROKER_USERS = (*DATABASE_USERS, "flower")
SECRETS = (
    "postgres",
    "monitor",
    "supervisor",
    *(f"database_{user}" for user in DATABASE_USERS),
    *(f"broker_{user}" for user in BROKER_USERS),
)
PORTS = (
    "postgres",
    "epmd",
    "erlang",
    "amqp",
    "rabbitmq_ui",
    "backend",
    "inference_metrics",
    "flower",
    "supervisor",
)


class SetupError(Exception):
    """A command cannot do its work. The text says why, and if possible what to do."""


@dataclass(frozen=True)
class Config:
    """The state folder, ports and secrets of one local system."""

    state: Path
    http_port: int
    ports: Mapping[str, int]
    secrets: Mapping[str, str]

    def database_url(self, user: str) -> str:
        """The address for one of DATABASE_USERS, or for the owner, `cifar`."""
        password = self.secrets["postgres" if user == "cifar" else f"database_{user}"]
        return f"postgresql://{user}:{password}@127.0.0.1:{self.ports['postgres']}/cifar"

    def broker_url(self, user: str) -> str:
        """The address for one of BROKER_USERS."""
        return f"amqp://{user}:{self.secrets[f'broker_{user}']}@127.0.0.1:{self.ports['amqp']}/cifar"

    @property
    def address(self) -> str:
        return f"http://localhost:{self.http_port}"


def prepare(state: Path, http_port: int) -> Config:
    """Create the state folder and missing secrets; choose PORTS anew if one is taken. Raises SetupError."""
    for path in (state, REPOSITORY):
        if not re.fullmatch(r"[\w./+@,=:~-]+", str(path)):
            raise SetupError(
                f"the path {str(path)!r} has characters that the servers' configuration files cannot hold; "
                "move the checkout to a path of letters, digits and _ . / + @ , = : ~ -"
            )
    state.mkdir(parents=True, exist_ok=True)
    if not port_is_free(http_port):
        raise SetupError(
            f"another program uses port {http_port}; choose another port: HTTP_PORT=8081 make up"
        )
    secret_file = state / "secrets.json"
    known = json.loads(secret_file.read_text()) if secret_file.exists() else {}
    if missing := {name: secrets.token_hex(16) for name in SECRETS if name not in known}:
        write_private(secret_file, json.dumps(known | missing, indent=2))
    port_file = state / "ports.json"
    ports = json.loads(port_file.read_text())["ports"] if port_file.exists() else {}
    if set(ports) != set(PORTS) or not all(port_is_free(port) for port in ports.values()):
        ports = dict(zip(PORTS, find_free_ports(len(PORTS)), strict=True))
    write_private(port_file, json.dumps({"http_port": http_port, "ports": ports}, indent=2))
    return read(state)


def read(state: Path) -> Config:
    """The configuration that `prepare` wrote to `state`. Raises SetupError if there is none."""
    try:
        ports = json.loads((state / "ports.json").read_text())
        passwords = json.loads((state / "secrets.json").read_text())
    except FileNotFoundError as error:
        raise SetupError(f"no system was started in {state}; start one with: make up") from error
    return Config(state, ports["http_port"], ports["ports"], passwords)


def port_is_free(port: int) -> bool:
    """Whether the port is free under IPv4 and IPv6. Raises SetupError if this user may not open it."""
    return _can_bind(socket.AF_INET, "127.0.0.1", port) and (
        not has_ipv6() or _can_bind(socket.AF_INET6, "::1", port)
    )


def has_ipv6() -> bool:
    """Whether this machine has the address ::1. The address is missing if IPv6 is missing or switched off."""
    return _can_bind(socket.AF_INET6, "::1", 0)


def _can_bind(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        socket.create_server((address, port), family=family).close()
    except PermissionError as error:
        raise SetupError(
            f"only root may open port {port}; choose a port above 1023: HTTP_PORT=8080 make up"
        ) from error
    except OSError:  # in use; also raised by a kernel without IPv6
        return False
    return True


def find_free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read. Some of these files hold secrets."""
    path.touch(mode=0o600)
    path.write_text(content)
