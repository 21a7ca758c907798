"""The part `worker_loop` of `make gpu-check`: the worker's batch loop, without broker and database.

The real task and its runner work in a pool of threads, as in a worker. Celery's consumer, its requests and
the database are replaced, so the figures are those of the device and of the worker's own Python code.
"""

import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from queue import Queue
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from inference import artifact
from inference.classifier import Classifier, Loader
from inference.engine import has_cuda
from inference.outcomes import ForwardPass, Outcome, Row
from tests.gpu import image_file
from tests.gpu.findings import report_check, report_figure, report_skipped
from tests.gpu.options import Options, decode

MAX_BATCH, TINY_MAX_BATCH = 64, 8
PREDICTIONS, TINY_PREDICTIONS = 50_000, 64
GROUP = 64  # predictions in a message of a bulk upload
BUSY_SHARE = 0.5  # a GPU must work for at least this share of the time


class MemoryPredictions:
    """Replaces the table of predictions. Each prediction has one of the images."""

    def __init__(self, pixels: Sequence[bytes]) -> None:
        self.pixels = pixels
        self.succeeded = 0

    def take(self, ids: Collection[UUID], **_: bool) -> list[Row]:
        now = datetime.now(UTC)
        return [Row(id, self.pixels[id.int % len(self.pixels)], 0, now, 0.0) for id in ids]

    def write(self, outcomes: Sequence[Outcome], _forward_pass: ForwardPass) -> set[UUID]:
        self.succeeded += sum(outcome.status == "succeeded" for outcome in outcomes)
        return {outcome.row.id for outcome in outcomes}


class FakeConsumer:
    """Replaces Celery's consumer: a loop that runs callbacks, and a pool of threads."""

    def __init__(self) -> None:
        self._callbacks: Queue[Callable[[], None]] = Queue()
        self._pool = ThreadPoolExecutor(3)
        self.hub = SimpleNamespace(
            call_soon=self._callbacks.put, call_later=lambda _seconds, callback: self._callbacks.put(callback)
        )
        self.pool = SimpleNamespace(apply_async=lambda target, given: self._pool.submit(target, *given))

    def run_until(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self._callbacks.get()()
        self._pool.shutdown()


class FakeRequest:
    """Replaces Celery's request of a message. Calls `settle` when the message succeeds or fails."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle

    def on_accepted(self, _pid: int, _started: float) -> None:
        pass

    def on_success(self, _outcome: object) -> None:
        self._settle()

    def on_failure(self, _info: object) -> None:
        self._settle()


class TimedClassifier:
    """A classifier that adds up the time of its answers, including the copies to the device and back."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._classifier, name)

    def __call__(self, images: Sequence[bytes]) -> Any:
        started = time.perf_counter()
        answers = self._classifier(images)
        self.seconds += time.perf_counter() - started
        return answers


def classify_all(classifier: Classifier, pixels: Sequence[bytes], count: int, max_batch: int) -> None:
    """Run `count` predictions in messages of 64, and report images/s and CPU time."""
    from celery_worker import logs
    from inference.collector import Group
    from inference.metrics import Metrics
    from inference.runner import BatchRunner
    from inference.task import Classify

    logs.configure("inference")  # a line for each prediction, as in a worker
    timed, predictions = TimedClassifier(classifier), MemoryPredictions(pixels)
    consumer = FakeConsumer()
    runner = BatchRunner(timed, predictions, Metrics())  # pyright: ignore[reportArgumentType]
    task = Classify(runner, max_batch)
    task.connect(consumer)
    messages, ended, lock = -(-count // GROUP), threading.Event(), threading.Lock()

    def settle() -> None:
        nonlocal messages
        with lock:
            messages -= 1
        if not messages:
            ended.set()
            consumer.hub.call_soon(lambda: None)  # wakes the loop

    for start in range(0, count, GROUP):
        ids = [uuid4() for _ in range(min(GROUP, count - start))]
        task.add(Group(FakeRequest(settle), dict.fromkeys(ids), is_bulk=True))
    started, cpu = time.perf_counter(), time.process_time()
    consumer.run_until(ended)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    check_loop(predictions.succeeded, count, seconds, cpu, timed.seconds / seconds, max_batch)


def check_loop(succeeded: int, count: int, seconds: float, cpu: float, busy: float, max_batch: int) -> None:
    report_check(
        "outcomes of the batch loop",
        f"{succeeded:,} of {count:,} succeeded",
        "all",
        passed=succeeded == count,
    )
    rate, cpu_ms = succeeded / seconds, 1000 * cpu / count
    text = f"{rate:,.0f} images/s, {cpu_ms:.3f} CPU-ms an image, batches of {max_batch}"
    report_figure("batch loop", text, images_per_second=rate, cpu_ms=cpu_ms)
    text = f"the device works for {busy:.0%} of the time"
    if has_cuda():
        goal = f"at least {BUSY_SHARE:.0%}"
        report_check("busy share in the batch loop", text, goal, passed=busy >= BUSY_SHARE, busy=busy)
    else:
        report_figure("busy share in the batch loop", text, busy=busy)


def run(options: Options) -> None:
    max_batch = TINY_MAX_BATCH if options.tiny else MAX_BATCH
    check = artifact.read(options.model).check
    images = image_file.read(options.images)[0] if options.images else check.images
    classifier = Loader(cpu_threads=1, max_batch_size=max_batch).load(options.model)
    text = classifier.device_name + (f", because {classifier.fallback}" if classifier.fallback else "")
    report_check("device of the batch loop", text, "no fallback", passed=not classifier.fallback)
    pixels = [image.tobytes() for image in images]
    try:
        classify_all(classifier, pixels, TINY_PREDICTIONS if options.tiny else PREDICTIONS, max_batch)
    except ModuleNotFoundError as error:
        report_skipped("batch loop", f"the Python package {error.name} is not installed")


if __name__ == "__main__":
    run(decode(sys.argv[1]))
