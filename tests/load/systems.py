"""The systems under test: this service, and LitServe with the same model."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import psutil

from scripts.local import stack
from scripts.local.config import REPOSITORY, Config, SetupError, find_free_ports
from tests.conftest import SHIPPED_MODEL
from tests.load import cpu

STATE = REPOSITORY / ".local/bench/system"
LITSERVE_LOG = REPOSITORY / ".local/bench/litserve.log"
CPU_THREADS = 1  # of LitServe's model; the service's setting has the same default
START_SECONDS = 120
WAIT = "Prefer: wait=60\r\n"
PROGRAMS_OF = {
    "proxy": ("nginx",),
    "backend": ("backend",),
    "database": ("postgres",),
    "broker": ("rabbitmq", "epmd"),
    "worker": ("inference",),
    "flower": ("flower",),
}
"""The programs of each part. The idle training worker and supervisord run, too, but are not counted."""


@dataclass(frozen=True)
class System:
    """A running server, and how to send requests to it."""

    name: str
    port: int
    roots: Mapping[str, Sequence[int]]
    """The pids of each part of the system; each pid includes its whole process tree."""
    headers: str
    """The header lines of an upload that waits for its outcome."""
    marker: bytes
    """Bytes that an answer holds once for each classified image."""

    def read_cpu(self) -> cpu.Reading:
        return cpu.read(self.roots)


@dataclass(frozen=True)
class LitServe(System):
    """LitServe, which is paused while another system is under load.

    Its worker asks for requests a thousand times a second, also while there are none.
    """

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for (pid,) in self.roots.values():
            for process in cpu.tree(psutil.Process(pid)):
                process.send_signal(number)


@contextlib.contextmanager
def run_service(max_unfinished: int) -> Generator[tuple[System, Config]]:
    """Run this service with an empty database and only the shipped model.

    `max_unfinished` is the setting MAX_UNFINISHED: how many predictions may be unfinished.
    """
    stack.stop(STATE)
    shutil.rmtree(STATE, ignore_errors=True)  # old rows would change the measurement
    shutil.copytree(SHIPPED_MODEL, STATE / "models" / SHIPPED_MODEL.name)
    (port,) = find_free_ports(1)
    os.environ["MAX_UNFINISHED"] = str(max_unfinished)
    try:
        config = stack.start(STATE, port)
        stack.wait_until(
            lambda: stack.fetch_health(config).get("status") == "ok", START_SECONDS, "the system"
        )
        yield find_service(config), config
    finally:
        stack.stop(STATE)


def find_service(config: Config) -> System:
    """The running service."""
    pids = {process["name"]: process["pid"] for process in stack.processes(config)}
    roots = {group: [pids[name] for name in names] for group, names in PROGRAMS_OF.items()}
    return System("service", config.http_port, roots, WAIT, b'"status":"succeeded"')


@contextlib.contextmanager
def run_litserve() -> Generator[LitServe]:
    """Run LitServe until the block ends. If the benchmark is killed, LitServe ends when its input closes."""
    (port,) = find_free_ports(1)
    command = [
        sys.executable,
        "-m",
        "tests.load.litserve_server",
        str(port),
        str(CPU_THREADS),
        str(SHIPPED_MODEL),
    ]
    LITSERVE_LOG.parent.mkdir(parents=True, exist_ok=True)
    with LITSERVE_LOG.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=REPOSITORY, process_group=0
        )
    try:
        stack.wait_until(lambda: is_ready(port, process), START_SECONDS, "LitServe")
        yield LitServe("LitServe", port, {"LitServe": [process.pid]}, "", b'"confidence"')
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def is_ready(port: int, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise SetupError(f"LitServe ended during its start; see {LITSERVE_LOG}")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
