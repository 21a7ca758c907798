"""The trial: a model runs in another process, with limits of memory and time.

A malicious or broken graph can take all memory, run for hours or crash ONNX Runtime. In a trial such a graph
ends only the child process, not the worker. A trial always runs on the CPU.
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
from inference.engine import Engine, Precision, are_close, list_batch_sizes
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
            command, input=given.getvalue(), stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # may be huge: ONNX Runtime prints names of the graph there
            timeout=4 * seconds, check=False, cwd=root, env={},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ArtifactError(f"its trial did not end within {4 * seconds} seconds") from None
    if done.returncode == REFUSED:
        raise ArtifactError(done.stdout.decode(errors="replace").strip())
    if done.returncode == -signal.SIGXCPU:
        raise ArtifactError(f"its trial takes more than {seconds} seconds of CPU time")
    if done.returncode:
        raise ArtifactError(f"its trial crashed (exit status {done.returncode})")


def main() -> int:
    """The child process. Reads a model and its `Check` from standard input; prints why it refuses."""
    precision, max_batch_size, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    limit(seconds)
    assert precision in ("float32", "int8")
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as given:
        check = Check(given["images"], given["probabilities"], given["energy"])
        content = given["model"].tobytes()
    try:
        run(content, precision, check, max_batch_size)
    except ArtifactError as error:
        reason = str(error)
    except MemoryError:
        reason = f"its trial needs more than {MAX_BYTES // 2**20:,} MiB of memory"
    except Exception as error:
        reason = f"its trial failed: {error!r}"
    else:
        return 0
    print(reason[:MAX_REASON])
    return REFUSED


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

    classes = check.probabilities.shape[1]
    graph.check(content, classes)
    engine = Engine(content, threads=1)
    expected = engine.check(check, precision)
    for size in list_batch_sizes(max_batch_size):
        images = np.resize(check.images, (size, *check.images.shape[1:]))  # repeats them
        for found, known in zip(engine.answer(images, classes), expected, strict=True):
            if not are_close(found, np.resize(known, found.shape)):
                raise ArtifactError("its answer for an image depends on the other images of the batch")
    shape = (max_batch_size, INPUT_SIZE, INPUT_SIZE, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    batch[0] = 0
    batch[-1] = 255
    started = time.process_time()
    engine.answer(batch, classes)
    if (seconds := time.process_time() - started) > MAX_BATCH_SECONDS:
        over = f"more than {MAX_BATCH_SECONDS:.0f}"
        raise ArtifactError(f"a batch of {max_batch_size} takes {seconds:.1f} s of CPU time, {over}")


if __name__ == "__main__":
    sys.exit(main())
