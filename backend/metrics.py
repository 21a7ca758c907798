"""The metrics of this backend for Prometheus."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from backend.database import Pool
from backend.events import EventFeed
from backend.relay import Relay
from backend.schemas.health import Gpu
from backend.uploads import UploadReader

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # `Prefer: wait` takes at most 60


class Metrics:
    """Counters that the backend increments, figures of GPUs, and gauges that read other objects."""

    def __init__(self, pool: Pool, relay: Relay, events: EventFeed, uploads: UploadReader) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "backend_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "backend_request_seconds",
            "Time until the head of the answer; the body of a stream has no end.",
            ["route", "method"],
            buckets=SECONDS,
            registry=registry,
        )
        self.accepted = Counter("backend_images_accepted", "Images stored.", registry=registry)
        self.refused = Counter(
            "backend_refusals",
            "Refused files, and uploads refused for another reason; the label is the title of the error.",
            ["reason"],
            registry=registry,
        )

        def show(name: str, text: str, read: Callable[[], float]) -> None:
            Gauge(f"backend_{name}", text, registry=registry).set_function(read)

        unfinished = "Unfinished predictions of all backends; an estimate if 5,000 or more."
        republished = "Rows whose message was published again in the last ten seconds."
        show("predictions_unfinished", unfinished, lambda: relay.unfinished)
        show("relay_waiting", "Rows that wait for their first publication.", lambda: relay.waiting)
        show("relay_republished", republished, lambda: relay.republished)
        show("stream_subscribers", "Open event streams.", lambda: events.open_streams)
        held = "Bytes reserved for uploads that are being read: at most MAX_UPLOAD_BYTES for each request."
        show("upload_bytes_held", held, lambda: uploads.held_bytes)
        in_use = "Connections of the main pool in use."
        show("database_connections_in_use", in_use, lambda: pool.connections_in_use)
        self._gpus = {
            field: Gauge(f"backend_gpu_{name}", "The driver's figure.", ["index", "name"], registry=registry)
            for field, name in (
                ("memory_used_bytes", "memory_used_bytes"),
                ("memory_total_bytes", "memory_total_bytes"),
                ("utilization_percent", "utilization_percent"),
                ("temperature_c", "temperature_celsius"),
                ("power_w", "power_watts"),
            )
        }

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, status).inc()
        self._request_seconds.labels(route, method).observe(seconds)

    def set_gpus(self, gpus: Iterable[Gpu]) -> None:
        """Replace the figures of the GPUs. Figures that are None are left out."""
        for gauge in self._gpus.values():
            gauge.clear()
        for gpu in gpus:
            for field, gauge in self._gpus.items():
                if (value := getattr(gpu, field)) is not None:
                    gauge.labels(gpu.index, gpu.name).set(value)
