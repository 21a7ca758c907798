"""The files that configure the local servers."""

import ipaddress
import os
import re
import resource
from collections.abc import Collection, Mapping
from configparser import RawConfigParser
from io import StringIO
from pathlib import Path
from string import Template

from scripts.local.config import MAX_REQUEST_BYTES, REPOSITORY, Config, SetupError, has_ipv6, write_private
from scripts.local.programs import PROGRAMS

MARK = "CIFAR_STATE"  # the variable that names the state folder, in the environment of every program


def write_files(config: Config, programs: Collection[str]) -> None:
    """Create the servers' folders, and write the configuration of RabbitMQ, nginx and supervisord."""
    for folder in ("log", "run", "rabbitmq", "nginx", "data-sets"):
        (config.state / folder).mkdir(exist_ok=True)
    _write_rabbitmq(config)
    write_nginx(config)
    _write_supervisor(config, programs)


def fill(template: Path, values: Mapping[str, str]) -> str:
    """Replace each ${NAME} in `template` that `values` holds, as the entrypoints of the Docker images do."""
    return Template(template.read_text()).safe_substitute(values)


def _write_rabbitmq(config: Config) -> None:
    rabbitmq = config.state / "rabbitmq"
    passwords = {f"{name.upper()}_PASSWORD": secret for name, secret in config.secrets.items()}
    definitions = fill(REPOSITORY / "broker/definitions.template.json", passwords)
    write_private(rabbitmq / "definitions.json", definitions)
    shared = (REPOSITORY / "broker/rabbitmq.conf").read_text()
    own = [
        f"definitions.local.path = {rabbitmq / 'definitions.json'}",
        "management.tcp.ip = 127.0.0.1",
        f"management.tcp.port = {config.ports['rabbitmq_ui']}",
    ]
    write_private(rabbitmq / "rabbitmq.conf", shared + "\n".join(own) + "\n")
    write_private(rabbitmq / "enabled_plugins", "[rabbitmq_management].\n")


def write_nginx(config: Config, **changes: str) -> Path:
    """Write nginx's configuration; returns its path. `changes` replace settings and template values."""
    nginx, given = config.state / "nginx", {**os.environ, **changes}
    values = {
        "LISTEN": f"listen 127.0.0.1:{config.http_port};"
        + (f" listen [::1]:{config.http_port};" if has_ipv6() else ""),
        "UI_ROOT": str(REPOSITORY / "ui/dist"),
        "ACCESS_LOG": "/dev/stdout json buffer=32k flush=1s",  # supervisord rotates this log
        "RESOLVER": "127.0.0.1",  # nginx never asks it: every address is a number
        "BACKEND_SERVERS": f"server 127.0.0.1:{config.ports['backend']};",
        "FLOWER_ADDRESS": f"127.0.0.1:{config.ports['flower']}",
        "RABBITMQ_ADDRESS": f"127.0.0.1:{config.ports['rabbitmq_ui']}",
        "GRAFANA_ADDRESS": "127.0.0.1:1",  # Grafana runs only with Docker
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
    """Return `url` if it is the address of a site or empty; otherwise raises SetupError."""
    if url and not re.fullmatch(r"https?://[\w.:\[\]-]+/?", url, re.ASCII):
        raise SetupError(f"PUBLIC_URL is {url!r}; it must be an address like https://cifar.example")
    return url


def trust(proxies: str) -> dict[str, str]:
    """TRUSTED_PROXIES as nginx directives, like proxy/trusted-proxies.envsh. Raises SetupError."""
    addresses = proxies.replace(",", " ").split()
    for address in addresses:
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError as error:
            raise SetupError(
                f"TRUSTED_PROXIES holds {address!r}; it must hold addresses and networks "
                "like 127.0.0.1 and 10.0.0.0/8"
            ) from error
    return {
        "REAL_IP_FROM": "".join(f" set_real_ip_from {address};" for address in addresses),
        "TRUSTED_ADDRESSES": "".join(f" {address} 1;" for address in addresses),
    }


def _write_supervisor(config: Config, programs: Collection[str]) -> None:
    state, password = config.state, config.secrets["supervisor"]
    address = f"127.0.0.1:{config.ports['supervisor']}"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Open files of each process: enough for 4,000 event streams, if the system allows it.
    open_files = 20480 if hard == resource.RLIM_INFINITY else min(20480, hard)
    file = RawConfigParser()
    file["supervisord"] = {
        "logfile": f"{state}/log/supervisord.log",
        "pidfile": f"{state}/run/supervisord.pid",
        "childlogdir": f"{state}/log",
        "directory": str(REPOSITORY),
        "minfds": str(open_files),
        "environment": f'{MARK}="{state}"',
    }
    file["inet_http_server"] = {"port": address, "username": "local", "password": password}
    file["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for priority, (name, describe) in enumerate(PROGRAMS.items()):
        if name in programs:
            program = describe(config)
            file[f"program:{name}"] = {
                "command": " ".join(program.command),
                "environment": ",".join(f'{key}="{value}"' for key, value in program.environment.items()),
                "priority": str(priority),
                "redirect_stderr": "true",
                "stdout_logfile": f"{state}/log/{name}.log",
                "stdout_logfile_maxbytes": "10MB",
                "stdout_logfile_backups": "1",
                "autorestart": "true",
                "startretries": "100",
                "startsecs": "1",
                **program.options,
            }
    text = StringIO()
    file.write(text, space_around_delimiters=False)
    write_private(state / "supervisord.conf", text.getvalue())
