"""A process that reads the GPUs on request, as the health report does.

Its environment decides which NVML library it finds.

Each line on stdin gives a number of simultaneous requests, and their deadline in seconds. The answer is a
JSON list with an entry for each request: the GPUs, the reason why there are none, or null after the deadline.
"""

import asyncio
import json
import math
import sys
from typing import Any

from backend import health
from backend.errors import Unavailable
from backend.gpus import Gpus
from backend.health import Question
from backend.schemas.health import Gpu


async def read(question: Question[list[Gpu]]) -> list[dict[str, Any]] | str:
    try:
        gpus, _ = await question.answer()
        return [gpu.model_dump() for gpu in gpus]
    except Unavailable as reason:
        return str(reason)


async def main() -> None:
    health.DEADLINE_SECONDS = math.inf  # each line has its own deadline
    gpus = Gpus()
    question = Question(gpus.read)
    while line := await asyncio.to_thread(sys.stdin.readline):
        count, deadline_seconds = line.split()
        reads = [asyncio.create_task(read(question)) for _ in range(int(count))]
        await asyncio.wait(reads, timeout=float(deadline_seconds))
        print(json.dumps([each.result() if each.done() else None for each in reads]), flush=True)
        for each in reads:
            each.cancel()
    question.cancel()
    gpus.close()


asyncio.run(main())
