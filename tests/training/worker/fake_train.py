"""Replaces `python -m training.train` in the worker's tests. `--recipe` names the behaviour.

Like the real command, it writes JSON lines to standard output, and a checkpoint after each epoch. The next
attempt resumes from the checkpoint and reports the old epochs again. Before it publishes, the process waits
for a line on standard input. It exits when standard input ends.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

EPOCHS = 3
VERSION = "2027-01-01-0123abcd"


def report(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def fail(title: str, detail: str) -> NoReturn:
    report(error={"title": title, "detail": detail})
    sys.exit(1)


ALLOWED = threading.Event()


def listen() -> None:
    while sys.stdin.readline():
        ALLOWED.set()
    os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--activation", required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--report", choices=["json"], required=True)
    options = parser.parse_args()
    threading.Thread(target=listen, daemon=True).start()
    options.cache.mkdir(parents=True, exist_ok=True)
    with (options.cache / "attempts").open("a") as file:  # a line for each attempt
        attempt = {"pid": os.getpid(), "arguments": sys.argv[1:], "nice": os.nice(0)}
        secrets = [name for name in os.environ if name in ("DATABASE_URL", "BROKER_URL")]
        file.write(json.dumps({**attempt, "secrets": secrets}) + "\n")
    behave(options)


def behave(options: argparse.Namespace) -> None:
    if options.recipe == "ignores-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report(phase="reading")
    report(note="left out, system files and folders: 1 (train/.DS_Store)")
    match options.recipe:
        case "crash":
            print("Traceback (most recent call last):\n\0ZeroDivisionError: by zero", file=sys.stderr)
            sys.exit(1)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "bad-data":
            # A file name that is not UTF-8, and a NUL: PostgreSQL stores neither.
            fail("Data cannot be used", "train/caf\udce9/7.png cannot be read.\0 Remove it.")
        case "exits-without-publishing":
            sys.exit(0)
        case _:
            pass
    report(epochs=options.epochs, device="a test's device")
    report(phase="training")
    print("this line is not a report", flush=True)
    done = int(options.checkpoint.read_text()) if options.checkpoint.exists() else 0
    for number in range(1, done + 1):
        report_epoch(number, options.epochs)
    for number in range(done + 1, options.epochs + 1):
        if options.recipe == "diverge" and number == 2:
            fail("Training diverged", "The loss is infinite or not a number in epoch 2. Try another seed.")
        options.checkpoint.write_text(str(number))
        if options.recipe == "hangs-before-report" and number == 2 and done == 0:
            time.sleep(600)
        report_epoch(number, options.epochs)
        if options.recipe in ("hang", "ignores-sigterm") or (options.recipe == "hang-once" and done == 0):
            time.sleep(600)
    while options.recipe == "waits-for-go" and not (options.cache / "go").exists():
        time.sleep(0.05)
    report(phase="publishing")
    ALLOWED.wait()
    (options.cache / f"{options.checkpoint.stem}.published").touch()
    report(published=VERSION)


def report_epoch(number: int, epochs: int) -> None:
    figures = {"accuracy": 0.5, "validation_accuracy": 0.4, "learning_rate": 0.1}
    rest = {"images_per_second": 1000.5, "seconds_left": float(epochs - number)}
    report(epoch={"number": number, "loss": 2.0 / number, **figures, **rest})


if __name__ == "__main__":
    main()
