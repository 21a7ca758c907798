"""The commands that run the local servers and services."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts.local.config import MAX_REQUEST_BYTES, REPOSITORY, Config, SetupError

# Where packages install servers. /usr/sbin comes later: its rabbitmq-server runs as another user.
FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/lib/rabbitmq/bin", "/usr/sbin", "/usr/lib/erlang/bin")


@dataclass(frozen=True)
class Program:
    """One program of supervisord: its command, its environment and further options of its section."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    options: Mapping[str, str] = field(default_factory=dict[str, str])


def find_program(name: str) -> str:
    """The path of a program. Raises SetupError."""
    if found := next(_list_programs(name), None):
        return str(found)
    raise SetupError(f"{name} is missing; scripts/bootstrap installs it")


def _list_programs(name: str) -> Iterator[Path]:
    """All programs of this name: in FOLDERS, then in PATH. Of several versions, the newest is first."""
    for folder in (*FOLDERS, *filter(os.path.isabs, os.get_exec_path())):
        found = Path("/").glob(f"{folder}/{name}".lstrip("/"))
        yield from sorted(found, key=lambda p: [int(n) for n in re.findall(r"\d+", str(p))], reverse=True)


def postgres_server(data: Path) -> str:
    """The server of the version that made `data`: other versions cannot read it. Raises SetupError."""
    if not (data / "PG_VERSION").exists():
        return find_program("postgres")
    version = (data / "PG_VERSION").read_text().strip()
    for program in _list_programs("postgres"):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        if re.match(rf"postgres \(PostgreSQL\) {version}\b", said):
            return str(program)
    raise SetupError(
        f"PostgreSQL {version} wrote the history in {data}, and it is no longer installed. Install it again "
        f"(apt-get install postgresql-{version}), or move that folder away to start with an empty history."
    )


def as_postgres(state: Path) -> list[str]:
    """For root: what to put before a command to run it as `postgres`. PostgreSQL refuses to run as root.

    If that user cannot reach the state folder (in /root, say), the command gets the capability to do so.
    """
    if os.geteuid() != 0:
        return []
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    if subprocess.run([*user, "test", "-x", str(state)], check=False).returncode == 0:
        return user
    return [*user, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


def _epmd(config: Config) -> Program:
    return Program([find_program("epmd"), "-port", str(config.ports["epmd"]), "-address", "127.0.0.1"])


def _postgres(config: Config) -> Program:
    data = config.state / "postgres"
    address = ["--listen_addresses=127.0.0.1", f"--port={config.ports['postgres']}"]
    flags = ["-D", str(data), *address, "--unix_socket_directories=''"]
    return Program([*as_postgres(config.state), postgres_server(data), *flags], options={"stopsignal": "INT"})


def _rabbitmq(config: Config) -> Program:
    rabbitmq = config.state / "rabbitmq"
    environment = {  # keeps the server apart from any other RabbitMQ
        "HOME": str(rabbitmq),
        "ERL_CRASH_DUMP": str(rabbitmq / "erl_crash.dump"),
        "ERL_EPMD_PORT": str(config.ports["epmd"]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        # Makes the start script `exec` the server, so that supervisord's signals reach the server.
        "RUNNING_UNDER_SYSTEMD": "1",
        "RABBITMQ_NODENAME": "cifar@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(config.ports["amqp"]),
        "RABBITMQ_DIST_PORT": str(config.ports["erlang"]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_MNESIA_BASE": str(rabbitmq / "data"),
        "RABBITMQ_LOG_BASE": str(rabbitmq / "log"),
        "RABBITMQ_CONFIG_FILE": str(rabbitmq / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(rabbitmq / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(rabbitmq / "enabled_plugins"),
    }
    options = {"stopasgroup": "true", "killasgroup": "true", "stopwaitsecs": "30"}
    return Program([find_program("rabbitmq-server")], environment, options)


def _backend(config: Config) -> Program:
    uvicorn = [find_in_venv("uvicorn"), "--factory", "backend.main:create_app", "--host", "127.0.0.1"]
    flags = ["--port", str(config.ports["backend"]), "--no-access-log", "--timeout-graceful-shutdown", "10"]
    environment = _service_environment(config, "backend") | {"MAX_REQUEST_BYTES": str(MAX_REQUEST_BYTES)}
    return Program([*uvicorn, *flags], environment, {"stopwaitsecs": "15"})


def _inference(config: Config) -> Program:
    metrics = {"METRICS_ADDRESS": f"127.0.0.1:{config.ports['inference_metrics']}"}
    return _celery_worker("inference", "inference.main", _service_environment(config, "worker") | metrics)


def _training(config: Config) -> Program:
    environment = _service_environment(config, "training") | {
        "DATA_SETS": str(config.state / "data-sets"),
        "CACHE_PATH": str(config.state / "data"),
        "TORCH_INSTALLER": str(REPOSITORY / "scripts/bootstrap"),
    }
    return _celery_worker("training", "training.worker.main", environment)


def _celery_worker(name: str, app: str, environment: Mapping[str, str]) -> Program:
    worker = [find_in_venv("celery"), "-A", app, "worker", "--loglevel", "WARNING"]
    flags = ["-n", f"{name}@localhost", "--without-gossip", "--without-mingle"]
    return Program([*worker, *flags], environment, {"stopwaitsecs": "30"})


def _service_environment(config: Config, user: str) -> dict[str, str]:
    models = config.state / "models"  # exists only in tests and in the benchmark
    return {
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": config.database_url(user),
        "BROKER_URL": config.broker_url(user),
        "MODELS_PATH": str(models if models.is_dir() else REPOSITORY / "models"),
    }


def _flower(config: Config) -> Program:
    monitor = f"monitor:{config.secrets['monitor']}"
    environment = {
        "CELERY_BROKER_URL": config.broker_url("flower"),
        "CELERY_CONFIG_MODULE": "broker.flower_celery",
        "FLOWER_URL_PREFIX": "flower",
        "FLOWER_BASIC_AUTH": monitor,
        "FLOWER_BROKER_API": f"http://{monitor}@127.0.0.1:{config.ports['rabbitmq_ui']}/rabbitmq/api/",
        "FLOWER_ENABLE_EVENTS": "False",  # the workers send Celery events without being asked
        "FLOWER_READ_ONLY": "True",
        "FLOWER_MAX_TASKS": "10000",
    }
    flags = ["--address=127.0.0.1", f"--port={config.ports['flower']}"]
    return Program([find_in_venv("celery"), "flower", *flags], environment)


def _nginx(config: Config) -> Program:
    return Program([find_program("nginx"), "-c", f"{config.state}/nginx/nginx.conf", "-p", str(config.state)])


def find_in_venv(name: str) -> str:
    """A command of this virtual environment."""
    return str(Path(sys.executable).parent / name)


# How to run each program, in the order of their start. A function raises SetupError if its server is missing.
PROGRAMS: Mapping[str, Callable[[Config], Program]] = {
    "epmd": _epmd,
    "postgres": _postgres,
    "rabbitmq": _rabbitmq,
    "backend": _backend,
    "inference": _inference,
    "training": _training,
    "flower": _flower,
    "nginx": _nginx,
}
