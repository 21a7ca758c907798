"""A worker with a fake classifier: `celery -A tests.chaos.worker_with_fake_classifier worker`."""

from collections.abc import Callable
from typing import Any

from inference import watcher
from tests.chaos.fake_classifier import FakeClassifier


class Watcher:
    """Has one model from the start, and finds no other."""

    def __init__(self, *_: Any) -> None:
        pass

    def wait_for_model(self) -> FakeClassifier:
        return FakeClassifier()

    def start(self, _serve: Callable[[Any], None]) -> None:
        pass

    def join(self) -> None:
        pass


watcher.Watcher = Watcher  # pyright: ignore[reportAttributeAccessIssue]

from inference.main import app  # noqa: E402

__all__ = ["app"]
