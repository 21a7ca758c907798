"""The commands behind `make up`, `make down`, `make status` and `make logs`."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from scripts.local import config as configuration
from scripts.local import stack
from scripts.local.config import REPOSITORY, Config, SetupError

STATE = REPOSITORY / ".local"
NEEDED = ("database", "broker", "inference")  # the components of the health report that predictions need
SAMPLE = REPOSITORY / "ui/public/samples/cat.jpg"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.local", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "logs"])
    command = parser.parse_args().command
    try:
        return {"up": up, "down": down, "status": status, "logs": logs}[command]()
    except SetupError as error:
        reason = str(error)
    except (PermissionError, psutil.AccessDenied) as error:
        reason = f"only {STATE.owner()}, who started the system here, may do that ({error})"
    print(f"make {command}: {reason}", file=sys.stderr)
    return 1


def up() -> int:
    """Start the system unless it runs, wait until it can serve predictions, classify a sample."""
    with stack.claimed(STATE):
        if stack.find_supervisor(STATE):
            config = configuration.read(STATE)
            print("the system is already running")
            stack.apply_schema(config)
            wait_for_health(config)
        else:
            port = read_port()
            print("starting the servers; Ctrl-C cancels", flush=True)
            try:
                config = stack.start(STATE, port)
                wait_for_health(config)
            except stack.SchemaChanged:
                raise  # the servers keep running: the user may change the schema
            except BaseException:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave servers running
                stack.stop(STATE)
                raise
    show_sample(config)
    show_addresses(config)
    return 0


def read_port() -> int:
    text = os.environ.get("HTTP_PORT") or "8080"
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        raise SetupError(f"HTTP_PORT is {text!r}; it must be a port number like 8081")
    return int(text)


def down() -> int:
    print("stopped" if stack.stop(STATE) else "nothing was running")
    return 0


def status() -> int:
    """Print the processes and the health report; returns 0 if predictions can be served."""
    if not stack.find_supervisor(STATE):
        print("not running; start the system with: make up")
        return 1
    config = configuration.read(STATE)
    for process in stack.processes(config):
        print(f"{process['name']:<10} {process['statename']:<9} {process['description']}")
    health = stack.fetch_health(config)
    print(json.dumps(health, indent=2) if health else "no answer from /api/health")
    return 0 if health.get("status") in ("ok", "degraded") else 1


def logs() -> int:
    """Follow every log until Ctrl-C."""
    files = sorted(str(file) for file in (STATE / "log").glob("*.log"))
    if not files:
        raise SetupError("there are no logs yet; start the system with: make up")
    try:
        return subprocess.run(["tail", "-n", "20", "-F", *files], check=False).returncode
    except KeyboardInterrupt:
        return 0


def wait_for_health(config: Config) -> None:
    """Print what is missing until predictions can be served. Raises SetupError after START_SECONDS."""
    deadline = time.monotonic() + stack.START_SECONDS
    printed, missing = "", ["backend"]
    while time.monotonic() < deadline:
        health = stack.fetch_health(config)
        if health.get("status") in ("ok", "degraded"):
            return
        parts = health.get("components", {})
        missing = [name for name in NEEDED if parts and parts[name]["status"] == "down"] or ["backend"]
        line = f"waiting for {', '.join(missing)}"
        if line != printed:
            print(line, flush=True)
            printed = line
        time.sleep(0.3)
    said = [f"timed out after {stack.START_SECONDS} s {printed}"]
    for name in missing:
        program = {"database": "postgres", "broker": "rabbitmq"}.get(name, name)
        lines = (config.state / f"log/{program}.log").read_text(errors="replace").splitlines()
        said += [f"--- .local/log/{program}.log", *lines[-8:]]
    raise SetupError("\n".join(said))


def show_sample(config: Config) -> None:
    answer = classify(config, SAMPLE)
    print(f"\n{SAMPLE.relative_to(REPOSITORY)} is a {answer['prediction']} ({answer['confidence']:.2%} sure)")
    for row in answer["probabilities"][:3]:
        print(f"  {row['label']:<12} {row['probability']:7.2%} {'█' * round(row['probability'] * 30)}")


def show_addresses(config: Config) -> None:
    print(f"""
  app        {config.address}/
  API        {config.address}/docs
  Flower     {config.address}/flower/      monitor / {config.secrets["monitor"]}
  RabbitMQ   {config.address}/rabbitmq/    the same login

  curl -F file=@{SAMPLE.relative_to(REPOSITORY)} -H 'Prefer: wait=10' {config.address}/api/predict
  Stop: make down     Watch: make status, make logs""")


def classify(config: Config, image: Path) -> dict[str, Any]:
    """Upload one image and wait for its prediction. Raises SetupError."""
    try:
        response = httpx.post(
            f"{config.address}/api/predict",
            files={"file": (image.name, image.read_bytes())},
            headers={"Prefer": "wait=30"},
            timeout=60,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise SetupError(f"the upload of the sample got no answer: {error}") from error
    if response.is_error:
        raise SetupError(f"the sample was refused: {response.text}")
    answer = response.json()
    if answer["status"] != "succeeded":
        raise SetupError(f"the sample was not classified: {answer}")
    return answer


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted")
        sys.exit(130)
