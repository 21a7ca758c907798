"""A process that reads the GPUs on request. Its environment decides which library it finds.

A line on stdin is a number of reads to make together and the deadline for them in seconds. The answer is a
line of JSON, an entry for each read: the GPUs, the reason that there are none, or null after the deadline.
"""

import asyncio
import json
import sys
from typing import Any

from backend.errors import Unavailable
from backend.gpus import Gpus


async def read(gpus: Gpus) -> list[dict[str, Any]] | str:
    try:
        return [gpu.model_dump() for gpu in await gpus.read()]
    except Unavailable as reason:
        return str(reason)


async def main() -> None:
    gpus = Gpus()
    while line := await asyncio.to_thread(sys.stdin.readline):
        count, deadline_seconds = line.split()
        reads = [asyncio.create_task(read(gpus)) for _ in range(int(count))]
        await asyncio.wait(reads, timeout=float(deadline_seconds))
        print(json.dumps([each.result() if each.done() else None for each in reads]), flush=True)
        for each in reads:
            each.cancel()
    gpus.close()


asyncio.run(main())
