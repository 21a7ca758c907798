"""Start, watch and stop the local servers. A supervisor of supervisord's own restarts what dies."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from scripts.local import config as configuration
from scripts.local import files
from scripts.local.config import PROGRAMS, REPOSITORY, Config, SetupError

SCHEMA = REPOSITORY / "schema.sql"
DATABASE_SECONDS = 60
START_SECONDS = 120
STOP_SECONDS = 60
DRAIN_SECONDS = 30


class SchemaChanged(SetupError):
    """The database is there, and runs, but is not of this schema.sql."""


def start(state: Path, http_port: int, programs: tuple[str, ...] = PROGRAMS) -> Config:
    """Start supervisord with these programs, its database created. Raises SetupError."""
    end_left_behind(state)
    config = configuration.prepare(state, http_port)
    supervisor = files.write_files(config, programs)
    with claimed(state):
        if "postgres" in programs:
            create_database(config)
        run([f"{Path(sys.executable).parent}/supervisord", "-c", str(supervisor)], "supervisord")
        if "postgres" in programs:
            apply_schema(config)
    return config


def stop(state: Path) -> bool:
    """Stop everything that `start` started there; returns whether there was anything."""
    pid = running_pid(state)
    if pid is None:
        return end_left_behind(state)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: running_pid(state) is None, STOP_SECONDS, "supervisord to stop")
    return True


def end_left_behind(state: Path) -> bool:
    """End what a supervisord that was killed left running; returns whether there was anything."""
    if not (pids := left_behind(state)):
        return False
    _signal(pids, signal.SIGTERM)
    with suppress(SetupError):
        wait_until(lambda: not left_behind(state), DRAIN_SECONDS, "it to drain")
    _signal(left_behind(state), signal.SIGKILL)
    wait_until(lambda: not left_behind(state), DRAIN_SECONDS, "what a killed supervisord left to end")
    return True


def left_behind(state: Path) -> list[int]:
    """Processes of `state`, none of them when supervisord is there to end them.

    Their environment names it. nginx writes its title over that, and names its configuration there.
    """
    mark, title = f"{files.MARK}={state}\0".encode(), f" {state}/nginx/nginx.conf".encode()
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            named = (process / "cmdline").read_bytes()
            if mark in (process / "environ").read_bytes() or (named.startswith(b"nginx:") and title in named):
                found.append(int(process.name))
    return found if running_pid(state) is None else []


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def running_pid(state: Path) -> int | None:
    """supervisord's pid, if the one that was started in `state` is alive."""
    try:
        pid = int((state / "run/supervisord.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if str(state / "supervisord.conf").encode() in command else None


def processes(config: Config) -> list[dict[str, Any]]:
    """supervisord's account of its programs. Raises SetupError while it is stopping."""
    password, port = config.secrets["supervisor"], config.ports["supervisor"]
    server = ServerProxy(f"http://local:{password}@127.0.0.1:{port}/RPC2")
    try:
        found: Any = server.supervisor.getAllProcessInfo()
    except (Fault, OSError) as error:
        raise SetupError("it is just starting or stopping; try again in a few seconds") from error
    return found


def fetch_health(config: Config) -> dict[str, Any]:
    """`GET /api/health` through the proxy; empty while there is no answer."""
    try:
        with urllib.request.urlopen(f"{config.address}/api/health", timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            return json.load(error)
        except ValueError:
            return {}
    except (OSError, ValueError):
        return {}


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until `condition` gives something true. Raises SetupError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise SetupError(f"waited {seconds:.0f} s for {what}, in vain; the logs are in .local/log")


@contextmanager
def claimed(state: Path) -> Generator[None]:
    """Hold the state folder against a second `start` at the same time."""
    lock = state / "starting"
    try:
        lock.mkdir()
    except FileExistsError:
        if time.time() - lock.stat().st_mtime < START_SECONDS:
            raise SetupError("it is being started already; wait for that, or see: make status") from None
        lock.touch()
    try:
        yield
    finally:
        lock.rmdir()


def create_database(config: Config) -> None:
    """Make the database cluster at the first start."""
    data = config.state / "postgres"
    if (data / "PG_VERSION").exists():
        return
    password_file = config.state / "run/postgres-password"
    data.mkdir(exist_ok=True)
    password_file.touch(mode=0o600)
    password_file.write_text(config.secrets["postgres"])
    if os.geteuid() == 0:
        run(["chown", "postgres:", str(data), str(password_file)], "chown")
    options = ["--username=cifar", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
    try:
        run(
            [
                *files.as_postgres(config.state),
                files.postgres_program("initdb"),
                *options,
                f"--pwfile={password_file}",
                "-D",
                str(data),
            ],
            "initdb",
        )
    finally:
        password_file.unlink()


def apply_schema(config: Config) -> None:
    """Create the database `cifar` from schema.sql, once, and set the passwords of its users.

    The database's comment tells what SQL it was made from. Raises SchemaChanged when that was other SQL.
    """
    address = ["-h", "127.0.0.1", "-p", str(config.ports["postgres"]), "-U", "cifar"]
    environment = os.environ | {"PGPASSWORD": config.secrets["postgres"]}

    def psql(database: str, sql: str, *flags: str) -> subprocess.CompletedProcess[str]:
        program = [files.postgres_program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *address, *flags]
        return subprocess.run(
            [*program, database], input=sql, capture_output=True, text=True, check=False, env=environment
        )

    wait_until(lambda: psql("postgres", "SELECT 1").returncode == 0, DATABASE_SECONDS, "PostgreSQL")
    schema = SCHEMA.read_text()
    origin = "schema.sql " + fingerprint(schema)
    if psql("cifar", "SELECT 'predictions'::regclass").returncode != 0:
        psql("postgres", "CREATE DATABASE cifar")  # there already, if a first start was cut short
        noted = f"{schema}\nCOMMENT ON DATABASE cifar IS '{origin}';"
        applied = psql("cifar", noted, "--single-transaction")
        if applied.returncode != 0:
            raise SetupError(f"schema.sql could not be applied: {applied.stderr.strip()}")
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'cifar'"
    if psql("cifar", comment, "-At").stdout.strip() != origin:
        raise SchemaChanged(
            f"the database in {config.state / 'postgres'} was made by another schema.sql.\n"
            "To start over, `make down`, and remove that folder with the history in it. To keep it, bring it "
            f"up to date; it runs: psql -h 127.0.0.1 -p {config.ports['postgres']} -U cifar cifar (the "
            f"password is `postgres` in {config.state / 'secrets.json'}). End with COMMENT ON DATABASE cifar "
            f"IS '{origin}', then `make down` and `make up`."
        )
    passwords = "".join(
        f"ALTER ROLE {user} PASSWORD '{config.secrets[f'database_{user}']}';"
        for user in ("backend", "worker", "training")
    )
    changed = psql("cifar", passwords)
    if changed.returncode != 0:
        raise SetupError(f"the database's passwords could not be set: {changed.stderr.strip()}")


def fingerprint(schema: str) -> str:
    """The same for SQL that says the same: comments and white space do not count."""
    words = (word for line in schema.splitlines() for word in line.partition("--")[0].split())
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    if done.returncode != 0:
        raise SetupError(f"{name} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
