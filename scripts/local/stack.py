"""Start, watch and stop the local servers. supervisord runs them, and restarts those that crash."""

import fcntl
import hashlib
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import httpx
import psutil

from scripts.local import config as configuration
from scripts.local import files, programs
from scripts.local.config import REPOSITORY, Config, SetupError
from scripts.local.programs import PROGRAMS

SCHEMA = REPOSITORY / "schema.sql"
# Local addresses have no TLS. An empty context saves each request the 20 ms of loading CA certificates.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
DATABASE_SECONDS = 60
START_SECONDS = 120
STOP_SECONDS = 60
DRAIN_SECONDS = 30


class SchemaChanged(SetupError):
    """The database runs, but another schema.sql made it."""


def start(state: Path, http_port: int, names: Collection[str] = PROGRAMS) -> Config:
    """Start supervisord with these programs; create the database if there is none. Raises SetupError."""
    end_left_behind(state)
    config = configuration.prepare(state, http_port)
    files.write_files(config, names)
    if "postgres" in names:
        create_cluster(config)
    run([programs.find_in_venv("supervisord"), "-c", f"{state}/supervisord.conf"], "supervisord")
    if "postgres" in names:
        apply_schema(config)
    return config


def stop(state: Path) -> bool:
    """Stop everything that `start` started in `state`; returns whether anything ran."""
    supervisor = find_supervisor(state)
    if supervisor is None:
        return end_left_behind(state)
    supervisor.terminate()
    wait_until(lambda: find_supervisor(state) is None, STOP_SECONDS, "supervisord to stop")
    return True


def end_left_behind(state: Path) -> bool:
    """End the processes that a killed supervisord left running; returns whether there were any."""
    if not left_behind(state):
        return False
    for end in (psutil.Process.terminate, psutil.Process.kill):
        found = left_behind(state)
        for process in found:
            with suppress(psutil.NoSuchProcess):
                end(process)
        psutil.wait_procs(found, DRAIN_SECONDS)
    wait_until(lambda: not left_behind(state), DRAIN_SECONDS, "the processes of a killed supervisord to end")
    return True


def left_behind(state: Path) -> list[psutil.Process]:
    """The processes of `state` that have no supervisord; empty while supervisord runs.

    Their environment names the state folder. nginx's master process overwrites its environment with its
    title, which names the configuration file in that folder. When the master ends, its workers end, too.
    """
    if find_supervisor(state) is not None:
        return []
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # the process has ended, or belongs to another user
            title = " ".join(process.cmdline())
            is_nginx = title.startswith("nginx:") and f" {state}/nginx/nginx.conf" in title
            if is_nginx or process.environ().get(files.MARK) == str(state):
                found.append(process)
    return found


def find_supervisor(state: Path) -> psutil.Process | None:
    """The running supervisord that was started in `state`, or None."""
    try:
        process = psutil.Process(int((state / "run/supervisord.pid").read_text()))
        return process if str(state / "supervisord.conf") in process.cmdline() else None
    except (OSError, ValueError, psutil.Error):
        return None


def processes(config: Config) -> list[dict[str, Any]]:
    """What supervisord reports of each program. Raises SetupError while supervisord starts or stops."""
    password, port = config.secrets["supervisor"], config.ports["supervisor"]
    server = ServerProxy(f"http://local:{password}@127.0.0.1:{port}/RPC2")
    try:
        found: Any = server.supervisor.getAllProcessInfo()
    except (Fault, OSError) as error:
        raise SetupError("supervisord is starting or stopping; try again in a few seconds") from error
    return found


def fetch_health(config: Config) -> dict[str, Any]:
    """`GET /api/health` through the proxy; empty if nothing answers."""
    try:
        # A proxy that the environment names (`trust_env`) must not get this request.
        address = f"{config.address}/api/health"
        return httpx.get(address, timeout=5, trust_env=False, verify=NO_TLS).json()
    except (httpx.HTTPError, ValueError):
        return {}


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until `condition` returns a true value, and return it. Raises SetupError after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise SetupError(f"timed out after {seconds:.0f} s waiting for {what}; see `log` in the state folder")


@contextmanager
def claimed(state: Path) -> Generator[None]:
    """Lock the state folder, so that only one `make up` runs at a time. Raises SetupError if it is locked."""
    with (state / "starting.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError("another `make up` is starting the system; see: make status") from None
        yield


def create_cluster(config: Config) -> None:
    """Create the database cluster at the first start."""
    data = config.state / "postgres"
    if (data / "PG_VERSION").exists():
        return
    password_file = config.state / "run/postgres-password"
    data.mkdir(exist_ok=True)
    configuration.write_private(password_file, config.secrets["postgres"])
    if os.geteuid() == 0:
        run(["chown", "postgres:", str(data), str(password_file)], "chown")
    initdb = [*programs.as_postgres(config.state), programs.find_program("initdb"), "-D", str(data)]
    options = ["--username=cifar", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
    try:
        run([*initdb, *options, f"--pwfile={password_file}"], "initdb")
    finally:
        password_file.unlink()


def apply_schema(config: Config) -> None:
    """Create the database `cifar` from schema.sql, once, and set the passwords of its users.

    The database's comment holds a fingerprint of that SQL. Raises SchemaChanged if the fingerprint differs.
    """
    address = ["-h", "127.0.0.1", "-p", str(config.ports["postgres"]), "-U", "cifar"]
    environment = os.environ | {"PGPASSWORD": config.secrets["postgres"]}

    def psql(database: str, sql: str, *flags: str) -> subprocess.CompletedProcess[str]:
        program = [programs.find_program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *address, *flags]
        return subprocess.run(
            [*program, database], input=sql, capture_output=True, text=True, check=False, env=environment
        )

    wait_until(lambda: psql("postgres", "SELECT 1").returncode == 0, DATABASE_SECONDS, "PostgreSQL")
    schema = SCHEMA.read_text()
    origin = "schema.sql " + fingerprint(schema)
    if psql("cifar", "SELECT 'predictions'::regclass").returncode != 0:
        psql("postgres", "CREATE DATABASE cifar")  # fails if an interrupted first start created it
        noted = f"{schema}\nCOMMENT ON DATABASE cifar IS '{origin}';"
        applied = psql("cifar", noted, "--single-transaction")
        if applied.returncode != 0:
            raise SetupError(f"schema.sql could not be applied: {applied.stderr.strip()}")
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'cifar'"
    if psql("cifar", comment, "-At").stdout.strip() != origin:
        raise SchemaChanged(
            f"another schema.sql made the database in {config.state / 'postgres'}.\n"
            "To start with an empty history: `make down`, then remove that folder. To keep the history, "
            f"change the running database by hand: psql -h 127.0.0.1 -p {config.ports['postgres']} -U cifar "
            f"cifar (the password is under `postgres` in {config.state / 'secrets.json'}). Finish with "
            f"COMMENT ON DATABASE cifar IS '{origin}', then `make down` and `make up`."
        )
    passwords = "".join(
        f"ALTER ROLE {user} PASSWORD '{config.secrets[f'database_{user}']}';"
        for user in configuration.DATABASE_USERS
    )
    changed = psql("cifar", passwords)
    if changed.returncode != 0:
        raise SetupError(f"the database's passwords could not be set: {changed.stderr.strip()}")


def fingerprint(schema: str) -> str:
    """A hash of the SQL without its comments and white space."""
    words = (word for line in schema.splitlines() for word in line.partition("--")[0].split())
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    if done.returncode != 0:
        raise SetupError(f"{name} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
