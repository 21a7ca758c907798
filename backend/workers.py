"""The workers, known by their heartbeats: events that Celery sends to the exchange `celeryev`.

Each worker sends a heartbeat every two seconds. Inference workers add their model, their device, the reason
for a fallback, and the numbers of predictions and batches that they have finished. Nothing is stored: a
backend that has just started knows all workers two seconds later.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backend.messages import TRAINING
from backend.schemas.health import TrainingWorker, Worker

SILENT_SECONDS = 10.0
FORGET_SECONDS = 600.0  # a worker that is silent for so long is not reported any more
RATE_SECONDS = 10.0


@dataclass(frozen=True)
class _Heartbeats:
    """The latest heartbeat of a worker, and its recent counts: (time sent, predictions, batches)."""

    model: str
    device: str
    fallback: str
    at: float  # when the latest heartbeat was received, by the monotonic clock
    counts: deque[tuple[float, int, int]]

    def rates(self) -> tuple[float, float]:
        """Predictions and batches a second, over about the last ten seconds."""
        if len(self.counts) < 2:
            return 0.0, 0.0
        (start, predictions, batches), (end, predictions_now, batches_now) = self.counts[0], self.counts[-1]
        seconds = max(end - start, 1.0)
        return (predictions_now - predictions) / seconds, (batches_now - batches) / seconds


class Workers:
    """The workers, by name."""

    def __init__(self) -> None:
        self._inference: dict[str, _Heartbeats] = {}
        self._training: dict[str, float] = {}

    def receive(self, event: Mapping[str, Any], now: float | None = None) -> None:
        """Receive one event. Events of other programs and malformed events are ignored."""
        now = time.monotonic() if now is None else now
        match event:
            case {"type": "worker-offline", "hostname": str(name)}:
                self._inference.pop(name, None)
                self._training.pop(name, None)
            case {"type": "worker-online" | "worker-heartbeat", "hostname": str(name)} if name.startswith(
                f"{TRAINING}@"
            ):
                self._training[name] = now
            case {
                "type": "worker-online" | "worker-heartbeat",
                "hostname": str(name),
                "model": str(model),
                "device": str(device),
                "fallback": str(fallback),
                "timestamp": float() | int() as sent,
                "predictions": int(predictions),
                "batches": int(batches),
            }:
                known = self._inference.get(name)
                counts = known.counts if known else deque[tuple[float, int, int]]()
                if counts and predictions < counts[-1][1]:
                    counts.clear()  # the worker has restarted
                # The time is `sent`, not `now`: heartbeats may wait in the queue and arrive together.
                counts.append((sent, predictions, batches))
                while sent - counts[0][0] > RATE_SECONDS and len(counts) > 2:
                    counts.popleft()
                self._inference[name] = _Heartbeats(model, device, fallback, now, counts)
            case _:
                pass

    def report_training(self, now: float | None = None) -> list[TrainingWorker]:
        """The training workers with a heartbeat in the last ten minutes, the latest first."""
        now = time.monotonic() if now is None else now
        self._training = {n: at for n, at in self._training.items() if now - at < FORGET_SECONDS}
        return [
            TrainingWorker(
                name=name,
                status="silent" if now - at > SILENT_SECONDS else "ok",
                last_seen=datetime.fromtimestamp(time.time() - (now - at), UTC),
            )
            for name, at in sorted(self._training.items(), key=lambda entry: -entry[1])
        ]

    def report_inference(self, now: float | None = None) -> list[Worker]:
        """The inference workers with a heartbeat in the last ten minutes, the latest first."""
        now = time.monotonic() if now is None else now
        self._inference = {
            n: heartbeats for n, heartbeats in self._inference.items() if now - heartbeats.at < FORGET_SECONDS
        }
        workers: list[Worker] = []
        for name, heartbeats in sorted(self._inference.items(), key=lambda entry: -entry[1].at):
            silence = now - heartbeats.at
            silent = silence > SILENT_SECONDS
            predictions, batches = (0.0, 0.0) if silent else heartbeats.rates()
            workers.append(
                Worker(
                    name=name,
                    status="silent" if silent else "ok",
                    model=heartbeats.model,
                    device=heartbeats.device,
                    detail=heartbeats.fallback or None,
                    last_seen=datetime.fromtimestamp(time.time() - silence, UTC),
                    predictions_per_second=round(predictions, 2),
                    batches_per_second=round(batches, 2),
                )
            )
        return workers
