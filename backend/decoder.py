"""The process that decodes uploads: `python -m backend.decoder PIXELS SECONDS BYTES`.

It reads requests from standard input, answers them in order on standard output, and ends when its input ends.
A request is a line of JSON and the file: {"bytes": 1234, "request_id": "…"}. An answer is a line of JSON and
the pixels: {"bytes": 3072}. A refusal has no pixels: {"bytes": 0, "refused": "DamagedImage", "text": "…"}.

A file with more than PIXELS pixels is refused. A file that takes more than SECONDS of CPU time or BYTES of
memory ends the process. If the backend ends, the process ends too, at the latest after its current file.
"""

import json
import os
import resource
import signal
import sys
from typing import Any, BinaryIO

from backend import logs
from images.decode import decode
from images.errors import ImageError


def main(max_pixels: int, cpu_seconds: float, memory_bytes: int) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # standard output of libraries goes to the log
    logs.configure()
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests = sys.stdin.buffer
    while line := requests.readline():
        head, pixels = answer(json.loads(line), requests, max_pixels, cpu_seconds)
        answers.write(json.dumps(head | {"bytes": len(pixels)}).encode() + b"\n" + pixels)
        answers.flush()


def answer(
    request: dict[str, Any], requests: BinaryIO, max_pixels: int, cpu_seconds: float
) -> tuple[dict[str, str], bytes]:
    """Read and decode the file of one request; returns the members of the answer and the pixels."""
    logs.request_id.set(request["request_id"])
    try:
        data = requests.read(request["bytes"])
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # CPU time of all threads; SIGPROF ends the process
        return {}, decode(data, max_pixels)
    except ImageError as error:
        if ran_out_of_memory(error):
            sys.exit("out of memory")
        return {"refused": type(error).__name__, "text": str(error)}, b""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is a lack of memory. If so, the file may be valid."""
    while error is not None:
        if isinstance(error, MemoryError) or "out of memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
