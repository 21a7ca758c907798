"""What Prometheus reads: figures of this backend, in a registry of its own."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from backend.database import Database
from backend.events import Changes
from backend.relay import Relay
from backend.schemas.health import Gpu
from backend.uploads import Uploading

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # a wait lasts 60 at most


class Metrics:
    """Counts what is told; reads what others know when Prometheus asks."""

    def __init__(self, database: Database, relay: Relay, changes: Changes, uploading: Uploading) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "backend_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "backend_request_seconds",
            "Time to the head of the answer: a stream's body has no end.",
            ["route", "method"],
            buckets=SECONDS,
            registry=registry,
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._accepted = Counter("backend_uploads_accepted", "Images stored.", registry=registry)
        self._refused = Counter(
            "backend_uploads_refused",
            "Files refused, and uploads refused whole, by the title of their problem.",
            ["reason"],
            registry=registry,
        )
        for name, text, read in (
            (
                "predictions_unfinished",
                "Predictions that wait or run, in all; estimated from 5,000 on.",
                lambda: relay.unfinished,
            ),
            ("relay_waiting", "Rows whose message was not handed to the broker yet.", lambda: relay.waiting),
            (
                "relay_relayed",
                "Rows whose message was published again in the last ten seconds.",
                lambda: relay.relayed,
            ),
            ("stream_subscribers", "Event streams that are open.", lambda: changes.streams),
            ("upload_bytes_held", "Of the uploads that are read and decoded.", lambda: uploading.held),
            ("database_connections_in_use", "Of the pool.", lambda: database.connections_in_use),
        ):
            Gauge(f"backend_{name}", text, registry=registry).set_function(read)
        self._gpus = {
            field: Gauge(f"backend_gpu_{name}", "As its driver tells.", ["index", "name"], registry=registry)
            for field, name in (
                ("memory_used_bytes", "memory_used_bytes"),
                ("memory_total_bytes", "memory_total_bytes"),
                ("utilization_percent", "utilization_percent"),
                ("temperature_c", "temperature_celsius"),
                ("power_w", "power_watts"),
            )
        }

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        key = (route, method, status)
        if key not in self._children:  # looking labels up each time costs more than counting
            self._children[key] = (
                self._requests.labels(route, method, status),
                self._request_seconds.labels(route, method),
            )
        requests, request_seconds = self._children[key]
        requests.inc()
        request_seconds.observe(seconds)

    def count_accepted(self, images: int) -> None:
        self._accepted.inc(images)

    def count_refused(self, title: str) -> None:
        self._refused.labels(title).inc()

    def set_gpus(self, gpus: Iterable[Gpu]) -> None:
        """Replace what is told of the GPUs; what is None is left out."""
        for gauge in self._gpus.values():
            gauge.clear()
        for gpu in gpus:
            for field, gauge in self._gpus.items():
                if (value := getattr(gpu, field)) is not None:
                    gauge.labels(gpu.index, gpu.name).set(value)
