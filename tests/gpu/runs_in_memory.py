"""Replaces `training.worker.runs.Runs` with one run in memory, so that the GPU checks need no database."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from training.worker.run import Lost, Model, Run


class RunsInMemory:
    """One run. `on_epoch` is called with each epoch's number after the epoch is stored."""

    def __init__(self, run: Run, on_epoch: Callable[[int], None] = lambda _: None) -> None:
        self.run = run
        self.on_epoch = on_epoch
        self.is_canceled = False
        self.version = ""
        self.planned: int | None = None
        self.phases: list[str] = []
        self.device = ""
        self.epochs: dict[int, Mapping[str, Any]] = {}
        self.reported: list[int] = []
        """The numbers of the epochs that the child reported. A resumed run reports the earlier ones again."""
        self.failure: tuple[str, str] | None = None

    def claim(self, id: UUID) -> Run | None:
        return self.run if id == self.run.id else None

    def check(self, run: Run) -> None:
        if self.is_canceled:
            raise Lost(f"{run.id} is canceled")

    def store_report(
        self, run: Run, epochs: int | None = None, device: str | None = None, phase: str | None = None
    ) -> None:
        self.check(run)
        self.planned = epochs or self.planned
        self.device = device or self.device
        self.phases += [phase] if phase else []

    def add_epoch(self, run: Run, epoch: Mapping[str, Any]) -> None:
        self.check(run)
        number = int(epoch["number"])
        self.reported.append(number)
        self.epochs.setdefault(number, epoch)
        self.on_epoch(number)

    def succeed(self, run: Run, version: str) -> None:
        self.check(run)
        self.version = version

    def fail(self, run: Run, title: str, detail: str) -> None:
        self.check(run)
        self.failure = (title, detail)

    def hand_back(self, run: Run) -> None:
        self.check(run)

    def announce(self) -> None:
        pass

    def find_model(self, version: str) -> Model:  # noqa: ARG002
        """Answer as if an inference worker had found the model. The run does not wait for it to be served."""
        return Model(error=None, awaited=False)

    def unfinished(self) -> set[UUID]:
        has_ended = self.is_canceled or self.version or self.failure
        return set() if has_ended else {self.run.id}
