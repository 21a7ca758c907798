"""The task messages: Celery's protocol, version 2, written by hand.

A frozen value without I/O. `docs/message-protocol.md` is the contract, and the golden files in
`tests/contract/` hold its bytes.
"""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

INFERENCE, TRAINING = "inference", "training"  # queues; each one's exchange and routing key are named like it
CONTENT_TYPE = "application/json"
CONTENT_ENCODING = "utf-8"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@dataclass(frozen=True)
class TaskMessage:
    """Ask a worker to look at the row `id`, which is the task's id, too."""

    task: str
    queue: str
    id: UUID
    request_id: str | None = None
    """Of the request that made the row, for the worker's log; a message published again has none."""

    def __str__(self) -> str:
        return f"{self.task}({self.id})"

    @property
    def headers(self) -> dict[str, Any]:
        """Header values are text, integers, lists and nulls: AMQP would round a float."""
        task_id = str(self.id)
        return {
            "lang": "py",
            "task": self.task,
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
            "name": self.task,
            "args": f"('{task_id}',)",
            "kwargs": "{}",
            "root_id": task_id,
            "parent_id": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "queue": self.queue,
            "exchange": self.queue,
            "routing_key": self.queue,
        }

    @property
    def body(self) -> bytes:
        """[args, kwargs, embed]"""
        return json.dumps([[str(self.id)], {}, EMBED]).encode()


def classify(id: UUID, request_id: str | None = None) -> TaskMessage:
    """Classify the stored image of one prediction."""
    return TaskMessage("inference.classify", INFERENCE, id, request_id)


def train(id: UUID, request_id: str | None = None) -> TaskMessage:
    """Run one training."""
    return TaskMessage("training.train", TRAINING, id, request_id)
