"""The worker's metrics for Prometheus."""

from collections.abc import Sequence
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, start_http_server

from inference.outcomes import ForwardPass, Outcome

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # up to the largest max_batch_size


class Metrics:
    """Counts batches and outcomes."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.model = Info("inference_model", "The served version and its device.", registry=registry)
        self._queue_seconds = Histogram(
            "inference_queue_seconds",
            "From the upload until the latest attempt began.",
            buckets=SECONDS,
            registry=registry,
        )
        self._batch_size = Histogram(
            "inference_batch_size", "Images in a forward pass.", buckets=IMAGES, registry=registry
        )
        self._forward_seconds = Histogram(
            "inference_forward_seconds", "Duration of a forward pass.", buckets=SECONDS, registry=registry
        )
        outcomes = Counter("inference_outcomes", "Finished predictions.", ["status"], registry=registry)
        self.by_status = {status: outcomes.labels(status) for status in ("succeeded", "failed")}

    def count_batch(self, outcomes: Sequence[Outcome], forward_pass: ForwardPass) -> None:
        """Count one batch. `outcomes` are those that were written."""
        self._batch_size.observe(forward_pass.batch_size)
        self._forward_seconds.observe(forward_pass.predict_ms / 1000)
        for outcome in outcomes:
            self._queue_seconds.observe(outcome.row.queue_ms / 1000)
            self.by_status[outcome.status].inc()

    def serve(self, address: str) -> tuple[WSGIServer, Thread]:
        """Answer Prometheus at host:port, in another thread."""
        host, _, port = address.rpartition(":")
        return start_http_server(int(port), host.strip("[]"), self.registry)
