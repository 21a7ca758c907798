"""The task message: Celery's protocol, version 2, written by hand.

A frozen value without I/O. `docs/message-protocol.md` is the contract, and the golden file in
`tests/contract/` holds its bytes.
"""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

TASK = "inference.classify"
EXCHANGE = "inference"
ROUTING_KEY = "inference"
CONTENT_TYPE = "application/json"
CONTENT_ENCODING = "utf-8"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@dataclass(frozen=True)
class ClassifyMessage:
    """Ask a worker to classify the stored image `id`. Its task id is the prediction's id."""

    id: UUID
    request_id: str | None = None
    """Of the upload, for the worker's log; a message published again has none."""

    def __str__(self) -> str:
        return f"{TASK}({self.id})"

    @property
    def headers(self) -> dict[str, Any]:
        """Header values are text, integers, lists and nulls: AMQP would round a float."""
        task_id = str(self.id)
        return {
            "lang": "py",
            "task": TASK,
            "id": task_id,
            "root_id": task_id,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": f"('{task_id}',)",
            "kwargsrepr": "{}",
            "origin": "backend",
            "ignore_result": True,
            "request_id": self.request_id,
        }

    def sent_event(self) -> dict[str, Any]:
        """Celery's event `task-sent` for this message, but for who sent it and when."""
        task_id = str(self.id)
        return {
            "type": "task-sent",
            "uuid": task_id,
            "name": TASK,
            "args": f"('{task_id}',)",
            "kwargs": "{}",
            "root_id": task_id,
            "parent_id": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "queue": ROUTING_KEY,
            "exchange": EXCHANGE,
            "routing_key": ROUTING_KEY,
        }

    @property
    def body(self) -> bytes:
        """[args, kwargs, embed]"""
        return json.dumps([[str(self.id)], {}, EMBED]).encode()
