"""The commands behind `make up`, `make down`, `make status` and `make logs`."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

from scripts.local import config as configuration
from scripts.local import stack
from scripts.local.config import REPOSITORY, Config, SetupError

STATE = REPOSITORY / ".local"
NEEDED = ("database", "broker", "inference")  # the health report's parts that predictions need
SAMPLE = REPOSITORY / "ui/public/samples/cat.jpg"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.local", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "logs"])
    command = parser.parse_args().command
    try:
        return {"up": up, "down": down, "status": status, "logs": logs}[command]()
    except SetupError as error:
        print(f"make {command}: {error}", file=sys.stderr)
    except PermissionError as error:
        print(
            f"make {command}: {STATE.owner()} started it here, and alone may do that ({error})",
            file=sys.stderr,
        )
    return 1


def up() -> int:
    """Start what is not running, wait until it is healthy, classify a sample."""
    if stack.running_pid(STATE) is not None:
        config = configuration.read(STATE)
        print("it runs already")
        with stack.claimed(STATE):
            stack.apply_schema(config)
        wait_for_health(config)
    else:
        port = read_port()
        print("starting the servers; Ctrl-C stops them again", flush=True)
        try:
            config = stack.start(STATE, port)
            wait_for_health(config)
        except stack.SchemaChanged:
            raise  # what runs is needed to mend it
        except BaseException:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave it half stopped
            stack.stop(STATE)
            raise
    show_sample(config)
    show_addresses(config)
    return 0


def read_port() -> int:
    text = os.environ.get("HTTP_PORT") or "8080"
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        raise SetupError(f"HTTP_PORT is {text!r}, and has to be the number of a port, like 8081")
    return int(text)


def down() -> int:
    print("stopped" if stack.stop(STATE) else "nothing was running")
    return 0


def status() -> int:
    """The processes and the health report; 0 when predictions can be served."""
    if stack.running_pid(STATE) is None:
        print("not running; start it with: make up")
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
        raise SetupError("there are no logs yet; start it with: make up")
    try:
        return subprocess.run(["tail", "-n", "20", "-F", *files], check=False).returncode
    except KeyboardInterrupt:
        return 0


def wait_for_health(config: Config) -> None:
    """Say what is still missing whenever that changes. Raises SetupError after two minutes."""
    deadline = time.monotonic() + stack.START_SECONDS
    said, missing = "", ["backend"]
    while time.monotonic() < deadline:
        health = stack.fetch_health(config)
        if health.get("status") in ("ok", "degraded"):
            return
        parts = health.get("components", {})
        missing = [name for name in NEEDED if parts and parts[name]["status"] == "down"] or ["backend"]
        line = f"waiting for {', '.join(missing)}"
        if line != said:
            print(line, flush=True)
            said = line
        time.sleep(0.3)
    ends = [f"--- .local/log/{name}.log\n{last_lines(config, name)}" for name in missing]
    raise SetupError(f"{said}, for {stack.START_SECONDS} s in vain\n" + "\n".join(ends))


def last_lines(config: Config, name: str, count: int = 8) -> str:
    program = {"database": "postgres", "broker": "rabbitmq"}.get(name, name)
    lines = (config.state / f"log/{program}.log").read_text(errors="replace").splitlines()
    return "\n".join(lines[-count:])


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
  RabbitMQ   {config.address}/rabbitmq/    the same

  curl -F file=@{SAMPLE.relative_to(REPOSITORY)} -H 'Prefer: wait=10' {config.address}/api/predict
  Stop it: make down     Watch it: make status, make logs""")


def classify(config: Config, image: Path) -> dict[str, Any]:
    """Upload one image and wait for its prediction. Raises SetupError."""
    boundary = uuid4().hex
    disposition = f'Content-Disposition: form-data; name="file"; filename="{image.name}"'
    head, tail = f"--{boundary}\r\n{disposition}\r\n\r\n", f"\r\n--{boundary}--\r\n"
    body = head.encode() + image.read_bytes() + tail.encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Prefer": "wait=30"}
    request = urllib.request.Request(f"{config.address}/api/predict", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise SetupError(f"the sample was refused: {error.read().decode()}") from error
    except OSError as error:
        raise SetupError(f"the sample got no answer: {error}") from error
    if answer["status"] != "succeeded":
        raise SetupError(f"the sample was not classified: {answer}")
    return answer


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted")
        sys.exit(130)
