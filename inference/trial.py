"""The trial: a model runs in another process, with limits of memory and time.

A malicious or broken graph can take all memory, run for hours or crash ONNX Runtime. In a trial this ends the
child process and not the worker. A trial always runs on the CPU.
"""

import io
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from inference.artifact import Check
from inference.card import INPUT_SIZE
from inference.engine import Engine, Precision, check_answers
from inference.errors import ArtifactError

SECONDS = 30  # of CPU time; the wall-clock limit is four times as long, because the machine may be busy
MAX_BYTES = 2 * 2**30  # of address space; the shipped model takes 0.4 GB at a batch of 64
MAX_BATCH_SECONDS = 10.0  # of CPU time, for one full batch
REFUSED = 3  # the exit status of a trial that has printed a reason
MAX_REASON = 500  # characters


def try_model(
    content: bytes, precision: Precision, check: Check, max_batch_size: int, seconds: int = SECONDS
) -> None:
    """Check a model and run it in a child process for at most `seconds` of CPU time. Raises ArtifactError."""
    given = io.BytesIO()
    np.savez(given, model=np.frombuffer(content, np.uint8), **vars(check))
    command = [sys.executable, "-m", "inference.trial", precision, str(max_batch_size), str(seconds)]
    root = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            command, input=given.getvalue(), capture_output=True, timeout=4 * seconds, check=False,
            cwd=root, env={},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ArtifactError(f"its trial did not end within {4 * seconds} seconds") from None
    if done.returncode == REFUSED:
        raise ArtifactError(done.stdout.decode().strip()[:MAX_REASON])
    if done.returncode == -signal.SIGXCPU:
        raise ArtifactError(f"its trial takes more than {seconds} seconds of CPU time")
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ArtifactError(f"its trial crashed ({done.returncode}) {last[:MAX_REASON]}".strip())


def main() -> int:
    """The child process. Reads a model and its check from standard input, and prints why it refuses."""
    precision, max_batch_size, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    limit(seconds)
    assert precision in ("float32", "int8")
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as given:
        check = Check(given["images"], given["probabilities"], given["energy"])
        content = given["model"].tobytes()
    try:
        run(content, precision, check, max_batch_size)
    except ArtifactError as error:
        print(error)
        return REFUSED
    except MemoryError:
        print(f"its trial needs more than {MAX_BYTES // 2**20:,} MiB of memory")
        return REFUSED
    return 0


def limit(seconds: int) -> None:
    """Limit this process. If the machine runs out of memory, the kernel kills this process first."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Path("/proc/self/oom_score_adj").write_text("1000")
    os.nice(10)


def run(content: bytes, precision: Precision, check: Check, max_batch_size: int) -> None:
    """Check the graph, then its answers and the time of a full batch. Raises ArtifactError."""
    from inference import graph  # imported only here: it takes 60 MB of memory

    graph.check(content, check.probabilities.shape[1])
    engine = Engine(content, threads=1)
    engine.check(check, precision)
    shape = (max_batch_size, INPUT_SIZE, INPUT_SIZE, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    batch[0] = 0
    batch[-1] = 255
    started = time.process_time()
    check_answers(*engine(batch))
    if (seconds := time.process_time() - started) > MAX_BATCH_SECONDS:
        allowed = f"more than {MAX_BATCH_SECONDS:.0f}"
        raise ArtifactError(f"a batch of {max_batch_size} takes {seconds:.0f} s of CPU time, {allowed}")


if __name__ == "__main__":
    sys.exit(main())
