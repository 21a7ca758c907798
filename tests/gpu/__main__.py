"""`make gpu-check`: measures and checks health, serving and training on a GPU.

docs/gpu.md says what each part checks. Each part runs in a process of its own with a time limit. If a part
hangs or crashes on a GPU, its memory is freed, and the other parts still run. Prints a row for each figure
and writes all of them to a JSON file. Exit status: 0 if nothing failed, 1 if something failed, 2 if there is
no GPU, so the tiny version ran in place of the full one, and passed.
"""

import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from threading import Timer
from typing import IO

from tests.gpu import findings
from tests.gpu.findings import Finding
from tests.gpu.options import REPOSITORY, Options, parse

# Each part's limit in seconds. With the default of `--seconds`, 600, the last part may take all the time that
# is left.
PARTS = {"nvml": 40, "serving": 150, "worker_loop": 60, "training_run": 110, "training": 600}
NO_GPU_STATUS = 2
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # for small networks more threads cost time


def main() -> int:
    given = parse(list(PARTS))
    options = given
    if not given.tiny and not has_gpu():
        print("no GPU here: the tiny version runs, on the CPU")
        options = replace(given, tiny=True)
    started = time.monotonic()
    found: dict[str, list[Finding]] = {}
    for part in options.parts:
        seconds_left = options.seconds - (time.monotonic() - started)
        # The tiny version has no limit for each part, because other programs may use the CPU.
        limit = seconds_left if options.tiny else min(seconds_left, PARTS[part])
        print(f"\n{part} (at most {limit:.0f} s)", flush=True)
        part_started = time.monotonic()
        found[part] = run_part(part, options, limit)
        print(f"          {time.monotonic() - part_started:.1f} s", flush=True)
    status = write_report(found, options, time.monotonic() - started)
    return status or (0 if options is given else NO_GPU_STATUS)


def has_gpu() -> bool:
    """Whether NVIDIA's driver can be loaded and finds a GPU."""
    count = ctypes.c_int()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return driver.cuInit(0) == driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def run_part(part: str, options: Options, seconds: float) -> list[Finding]:
    """Run one part and print its findings as they come."""
    if seconds <= 0:
        return [show(Finding(part, "failed", f"No time was left of {options.seconds:.0f} s."))]
    command = [sys.executable, "-m", f"tests.gpu.{part}", options.encode()]
    environment = os.environ | (ONE_THREAD if options.tiny else {})
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=log, encoding="utf-8", errors="replace", process_group=0,
        )  # fmt: skip
        timer = Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        assert process.stdout is not None
        found = [show(finding) for line in process.stdout if (finding := findings.read(line))]
        status = process.wait()
        timer.cancel()
        if status:
            found.append(show(explain(part, status, seconds, log)))
    return found


def show(finding: Finding) -> Finding:
    print(finding, flush=True)
    return finding


def explain(part: str, status: int, seconds: float, log: IO[str]) -> Finding:
    """A finding that says why a part's process failed. The process's last lines go to standard error."""
    log.seek(0)
    lines = [line for line in log.read().splitlines() if line.strip()]
    print("\n".join(lines[-20:]), file=sys.stderr)
    if status == -signal.SIGKILL:
        return Finding(
            part, "failed", f"It took more than {seconds:.0f} s, or too much memory, and was killed."
        )
    last = lines[-1] if lines else "it wrote nothing"
    return Finding(part, "failed", f"It ended with status {status}: {last:.300}")


def write_report(found: dict[str, list[Finding]], options: Options, seconds: float) -> int:
    """Write the JSON file and print the failures; returns 1 if something failed, else 0."""
    rows = [finding for part in found.values() for finding in part]
    counts = {outcome: sum(row.outcome == outcome for row in rows) for outcome in findings.MARKS}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "tiny": options.tiny,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "seconds": round(seconds, 1),
        "parts": {part: [asdict(finding) for finding in each] for part, each in found.items()},
    }
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    print(f"\n{summary} in {seconds:.0f} s: {options.json}")
    for row in rows:
        if row.outcome == "failed":
            print(f"failed: {row.what}: {row.text}")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
