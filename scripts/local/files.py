"""The files that configure the local servers, and the commands that run them."""

import ipaddress
import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.local.config import (
    MAX_REQUEST_BYTES,
    PROGRAMS,
    REPOSITORY,
    Config,
    SetupError,
    has_ipv6,
    write_private,
)

POSTGRES_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/bin", "/usr/local/bin")
MARK = "CIFAR_STATE"  # in the environment of every program: the state folder that it belongs to


def write_files(config: Config, programs: tuple[str, ...]) -> Path:
    """Write every server's configuration; returns supervisord's."""
    for folder in ("log", "run", "rabbitmq", "nginx", "data-sets"):
        (config.state / folder).mkdir(exist_ok=True)
    _write_rabbitmq(config)
    write_nginx(config)
    supervisor = config.state / "supervisord.conf"
    write_private(supervisor, _supervisor_file(config, programs))
    return supervisor


def fill(template: Path, values: Mapping[str, str]) -> str:
    """Replace each ${NAME} of `template` that `values` has, as envsubst does in the images."""
    return re.sub(r"\$\{(\w+)\}", lambda found: values.get(found[1], found[0]), template.read_text())


def find_program(*places: str) -> str:
    """The first of these programs that exists; a name with * means the newest version."""
    for place in places:
        found = sorted(
            Path("/").glob(place.lstrip("/")), key=lambda p: [int(n) for n in re.findall(r"\d+", str(p))]
        )
        if found:
            return str(found[-1])
    raise SetupError(f"{places[0]} is missing; scripts/bootstrap installs it")


def postgres_program(name: str) -> str:
    return find_program(*(f"{folder}/{name}" for folder in POSTGRES_FOLDERS))


def postgres_server(data: Path) -> str:
    """The server of the version that made `data`: no other can read it. Raises SetupError."""
    if not (data / "PG_VERSION").exists():
        return postgres_program("postgres")
    version = (data / "PG_VERSION").read_text().strip()
    for folder in POSTGRES_FOLDERS:
        for program in Path("/").glob(f"{folder.lstrip('/')}/postgres"):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            if re.match(rf"postgres \(PostgreSQL\) {version}\b", said):
                return str(program)
    raise SetupError(
        f"the history in {data} was written by PostgreSQL {version}, which is not here any more. "
        f"Install it again (apt-get install postgresql-{version}), or move that folder away to start over."
    )


def as_postgres(state: Path) -> list[str]:
    """PostgreSQL refuses to run as root: then run it as its own user.

    Where that user cannot reach the state folder (a clone in /root), it keeps the capability to.
    """
    if os.geteuid() != 0:
        return []
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    if subprocess.run([*user, "test", "-x", str(state)], check=False).returncode == 0:
        return user
    return [*user, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


def _write_rabbitmq(config: Config) -> None:
    rabbitmq = config.state / "rabbitmq"
    passwords = {
        "BROKER_BACKEND_PASSWORD": config.secrets["broker_backend"],
        "BROKER_WORKER_PASSWORD": config.secrets["broker_worker"],
        "BROKER_TRAINING_PASSWORD": config.secrets["broker_training"],
        "BROKER_FLOWER_PASSWORD": config.secrets["broker_flower"],
        "MONITOR_PASSWORD": config.secrets["monitor"],
    }
    write_private(
        rabbitmq / "definitions.json", fill(REPOSITORY / "broker/definitions.template.json", passwords)
    )
    shared = (REPOSITORY / "broker/rabbitmq.conf").read_text()
    own = [
        f"definitions.local.path = {rabbitmq / 'definitions.json'}",
        "management.tcp.ip = 127.0.0.1",
        f"management.tcp.port = {config.ports['rabbitmq_ui']}",
    ]
    write_private(rabbitmq / "rabbitmq.conf", shared + "\n".join(own) + "\n")
    write_private(rabbitmq / "enabled_plugins", "[rabbitmq_management].\n")


def _open_files() -> int:
    """How many files a process may have open: those of 4,000 event streams twice, if the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 20480 if hard == resource.RLIM_INFINITY else min(20480, hard)


def write_nginx(config: Config, **changes: str) -> Path:
    """Write nginx's configuration, with other values for some of the template's; returns its file."""
    nginx, given = config.state / "nginx", {**os.environ, **changes}
    values = {
        "LISTEN": f"listen 127.0.0.1:{config.http_port};"
        + (f" listen [::1]:{config.http_port};" if has_ipv6() else ""),
        "UI_ROOT": str(REPOSITORY / "ui/dist"),
        "ACCESS_LOG": "/dev/stdout json buffer=32k flush=1s",  # supervisord rotates it
        "RESOLVER": "127.0.0.1",  # never asked: there is no name among the addresses
        "BACKEND_SERVERS": f"server 127.0.0.1:{config.ports['backend']};",
        "FLOWER_ADDRESS": f"127.0.0.1:{config.ports['flower']}",
        "RABBITMQ_ADDRESS": f"127.0.0.1:{config.ports['rabbitmq_ui']}",
        "GRAFANA_ADDRESS": "127.0.0.1:1",  # runs with Docker alone
        "MAX_REQUEST_BYTES": str(MAX_REQUEST_BYTES),
        "RATE_LIMIT_PER_SECOND": given.get("RATE_LIMIT_PER_SECOND", "1000"),
        "HOST_NAMES": given.get("HOST_NAMES", r"localhost|127\.0\.0\.1|\[::1\]"),
        "PUBLIC_URL": check_public_url(given.get("PUBLIC_URL", "")),
        **trust(given.get("TRUSTED_PROXIES", "")),
    }
    write_private(nginx / "site.conf", fill(REPOSITORY / "proxy/site.conf.template", values | changes))
    temporary = "\n".join(
        f"    {kind}_temp_path {nginx / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    main = f"""{user}worker_processes 1;
worker_rlimit_nofile 20480;
daemon off;
pid {config.state / "run/nginx.pid"};
error_log stderr warn;
events {{ worker_connections 10240; }}
http {{
    include /etc/nginx/mime.types;
    sendfile on;
{temporary}
    include {nginx / "site.conf"};
}}
"""
    write_private(nginx / "nginx.conf", main)
    return nginx / "nginx.conf"


def check_public_url(url: str) -> str:
    """Raises SetupError for what is no address of a site."""
    if url and not re.fullmatch(r"https?://[\w.:\[\]-]+/?", url, re.ASCII):
        raise SetupError(f"PUBLIC_URL is {url!r}, and has to be an address like https://cifar.example")
    return url


def trust(proxies: str) -> dict[str, str]:
    """TRUSTED_PROXIES as directives of nginx, as in proxy/trusted-proxies.envsh. Raises SetupError."""
    addresses = proxies.replace(",", " ").split()
    for address in addresses:
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError as error:
            raise SetupError(
                f"TRUSTED_PROXIES holds {address!r}, and has to hold addresses and networks "
                "like 127.0.0.1 and 10.0.0.0/8"
            ) from error
    return {
        "REAL_IP_FROM": "".join(f" set_real_ip_from {address};" for address in addresses),
        "TRUSTED_ADDRESSES": "".join(f" {address} 1;" for address in addresses),
    }


def _supervisor_file(config: Config, programs: tuple[str, ...]) -> str:
    state, port = config.state, config.ports["supervisor"]
    sections = [
        f"[supervisord]\nlogfile={state}/log/supervisord.log\npidfile={state}/run/supervisord.pid\n"
        f"childlogdir={state}/log\ndirectory={REPOSITORY}\nminfds={_open_files()}\n"
        f'environment={MARK}="{state}"',
        f"[inet_http_server]\nport=127.0.0.1:{port}\nusername=local\npassword={config.secrets['supervisor']}",
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        f"[supervisorctl]\nserverurl=http://127.0.0.1:{port}\n"
        f"username=local\npassword={config.secrets['supervisor']}",
    ]
    for priority, name in enumerate(PROGRAMS):
        if name in programs:
            command, environment, extra = _program(config, name)
            pairs = ",".join(f'{key}="{value}"' for key, value in environment.items())
            sections.append(
                f"[program:{name}]\ncommand={' '.join(command)}\nenvironment={pairs}\npriority={priority}\n"
                f"redirect_stderr=true\nstdout_logfile={state}/log/{name}.log\nstdout_logfile_maxbytes=10MB\n"
                f"stdout_logfile_backups=1\nautorestart=true\nstartretries=100\nstartsecs=1\n{extra}"
            )
    return "\n\n".join(sections) + "\n"


def _program(config: Config, name: str) -> tuple[list[str], dict[str, str], str]:
    """A program's command, environment and further supervisor options."""
    binaries, ports = Path(sys.executable).parent, config.ports
    match name:
        case "epmd":
            command = [find_program("/usr/bin/epmd", "/usr/lib/erlang/bin/epmd", "/usr/local/bin/epmd")]
            return [*command, "-port", str(ports["epmd"]), "-address", "127.0.0.1"], {}, ""
        case "postgres":
            settings = {
                "listen_addresses": "127.0.0.1",
                "port": str(ports["postgres"]),
                "unix_socket_directories": "''",
            }
            flags = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
            data = ["-D", str(config.state / "postgres")]
            server = postgres_server(config.state / "postgres")
            return [*as_postgres(config.state), server, *data, *flags], {}, "stopsignal=INT\n"
        case "rabbitmq":
            server = find_program("/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/sbin/rabbitmq-server")
            return (
                [server],
                config.erlang_environment(),
                "stopasgroup=true\nkillasgroup=true\nstopwaitsecs=30\n",
            )
        case "backend":
            command = [f"{binaries}/uvicorn", "--factory", "backend.main:create_app", "--host", "127.0.0.1"]
            flags = ["--port", str(ports["backend"]), "--no-access-log", "--timeout-graceful-shutdown", "10"]
            environment = {
                "PYTHONUNBUFFERED": "1",
                "DATABASE_URL": config.database_url("backend"),
                "BROKER_URL": config.broker_url("backend"),
                "MAX_REQUEST_BYTES": str(MAX_REQUEST_BYTES),
                "MODELS_PATH": str(config.models),
            }
            return [*command, *flags], environment, "stopwaitsecs=15\n"
        case "inference":
            command = [f"{binaries}/celery", "-A", "inference.worker", "worker", "--loglevel", "WARNING"]
            flags = ["-n", "inference@localhost", "--without-gossip", "--without-mingle"]
            environment = {
                "PYTHONUNBUFFERED": "1",
                "DATABASE_URL": config.database_url("worker"),
                "BROKER_URL": config.broker_url("worker"),
            }
            environment["MODELS_PATH"] = str(config.models)
            environment["METRICS_ADDRESS"] = f"127.0.0.1:{ports['inference_metrics']}"
            return [*command, *flags], environment, "stopwaitsecs=30\n"
        case "training":
            command = [f"{binaries}/celery", "-A", "training.worker.main", "worker", "--loglevel", "WARNING"]
            flags = ["-n", "training@localhost", "--without-gossip", "--without-mingle"]
            environment = {
                "PYTHONUNBUFFERED": "1",
                "DATABASE_URL": config.database_url("training"),
                "BROKER_URL": config.broker_url("training"),
                "MODELS_PATH": str(config.models),
                "DATA_SETS": str(config.data_sets),
                "CACHE_PATH": str(config.state / "data"),
                "TORCH_INSTALLER": str(REPOSITORY / "scripts/bootstrap"),
            }
            return [*command, *flags], environment, "stopwaitsecs=30\n"
        case "flower":
            command = [f"{binaries}/celery", "flower", "--address=127.0.0.1", f"--port={ports['flower']}"]
            environment = {
                "CELERY_BROKER_URL": config.broker_url("flower"),
                "CELERY_CONFIG_MODULE": "broker.flower_celery",
                "FLOWER_URL_PREFIX": "flower",
                "FLOWER_BASIC_AUTH": f"monitor:{config.secrets['monitor']}",
                "FLOWER_BROKER_API": f"http://monitor:{config.secrets['monitor']}"
                f"@127.0.0.1:{config.ports['rabbitmq_ui']}/rabbitmq/api/",
                "FLOWER_ENABLE_EVENTS": "False",  # the workers send them unasked
                "FLOWER_READ_ONLY": "True",
                "FLOWER_MAX_TASKS": "10000",
            }
            return command, environment, ""
        case "nginx":
            nginx = find_program("/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx")
            return [nginx, "-c", str(config.state / "nginx/nginx.conf"), "-p", str(config.state)], {}, ""
        case _:
            raise ValueError(name)
