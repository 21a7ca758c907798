"""The task messages, built in version 2 of Celery's protocol, without importing Celery.

`docs/message-protocol.md` is the contract; the golden files in `tests/contract/` hold the bytes.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

# The queues. The routing key of a message is the name of its queue.
INFERENCE, BULK, TRAINING = "inference", "inference.bulk", "training"
EXCHANGE_OF = {INFERENCE: "inference", BULK: "inference", TRAINING: "training"}
MAX_IDS = 64  # predictions in one message
CONTENT_TYPE = "application/json"
CONTENT_ENCODING = "utf-8"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

RowToPublish = tuple[UUID, str | None]
"""The id of a row, and the id of its request (None if the row is published again)."""


@dataclass(frozen=True)
class TaskMessage:
    """A message that asks a worker to process rows."""

    task: str
    queue: str
    argument: str | list[str]
    """The only argument of the task: the id of a training, or the ids of predictions."""
    requests: Mapping[str, str | list[str | None] | None]
    """The header with the ids of the requests, for the log of the worker."""

    @property
    def id(self) -> str:
        """The id of the task: the id of its first row."""
        return self.argument if isinstance(self.argument, str) else self.argument[0]

    @property
    def headers(self) -> dict[str, Any]:
        """No value is a float: the AMQP library would round it (docs/message-protocol.md)."""
        return {
            "lang": "py",
            "task": self.task,
            "id": self.id,
            "root_id": self.id,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": f"({self.argument!r},)",
            "kwargsrepr": "{}",
            "origin": "backend",
            "ignore_result": True,
            **self.requests,
        }

    @property
    def body(self) -> bytes:
        """[args, kwargs, embed]"""
        return json.dumps([[self.argument], {}, EMBED]).encode()


def build_messages(queue: str, rows: Iterable[RowToPublish]) -> list[TaskMessage]:
    """The messages for the rows of one queue: one for each training, or one for up to 64 predictions."""
    ordered = sorted(rows, key=lambda row: row[0].int)
    if queue == TRAINING:
        return [
            TaskMessage("training.train", queue, str(id), {"request_id": request_id})
            for id, request_id in ordered
        ]
    messages: list[TaskMessage] = []
    for start in range(0, len(ordered), MAX_IDS):
        group = ordered[start : start + MAX_IDS]
        requests = {"request_ids": [request_id for _, request_id in group]}
        messages.append(TaskMessage("inference.classify", queue, [str(id) for id, _ in group], requests))
    return messages
