"""How a run reports its progress: to a person at a terminal, or as JSON lines to the training worker."""

import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from training.errors import CommandError


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch."""

    number: int  # from 1
    loss: float  # mean cross-entropy of a training image
    accuracy: float  # on the augmented training images
    validation_accuracy: float  # on held-out images
    learning_rate: float  # of the convolution filters, at the last step
    images_per_second: float
    seconds_left: float  # until the last epoch ends, estimated


class Report:
    """Receives a run's progress. This class ignores it."""

    def phase(self, name: str) -> None:
        """A new phase begins."""

    def note(self, text: str) -> None:
        """Something that the user should know; the run continues."""

    def begin(self, epochs: int, steps: int, done: Sequence[Epoch], device: str) -> None:
        """Training begins: `epochs` epochs of `steps` steps. Those in `done` were trained before."""

    def step(self) -> None:
        """One step has ended."""

    def epoch(self, epoch: Epoch) -> None:
        """One epoch has ended."""

    def publishing(self) -> None:
        """The last phase begins; returns when the run may publish."""

    def published(self, artifact: Path, card: dict[str, Any]) -> None:
        """The model is published."""

    def failed(self, error: CommandError) -> None:
        """The run has failed."""


class Terminal(Report):
    """A progress bar of steps, and one line for each epoch."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] = tqdm(disable=True)

    def phase(self, name: str) -> None:  # noqa: ARG002
        self._bar.close()

    def note(self, text: str) -> None:
        tqdm.write(text)

    def begin(self, epochs: int, steps: int, done: Sequence[Epoch], device: str) -> None:
        tqdm.write(f"training: {epochs} epochs on {device}")
        total, initial = epochs * steps, len(done) * steps
        self._bar = tqdm(desc="training", total=total, initial=initial, unit="step", disable=None)

    def step(self) -> None:
        self._bar.update()

    def epoch(self, epoch: Epoch) -> None:
        tqdm.write(
            f"epoch {epoch.number:3}: loss {epoch.loss:.3f}, training accuracy {epoch.accuracy:.1%}, "
            f"validation accuracy {epoch.validation_accuracy:.1%}, learning rate {epoch.learning_rate:.3f}, "
            f"{epoch.images_per_second:,.0f} images/s, {epoch.seconds_left:.0f} s left"
        )
        sys.stdout.flush()  # a pipe would get the lines only at the end

    def published(self, artifact: Path, card: dict[str, Any]) -> None:
        print(f"published {artifact}: model.onnx has {card['accuracy']:.2%} accuracy on the test images")

    def failed(self, error: CommandError) -> None:
        self._bar.close()
        print(f"train: {error}", file=sys.stderr)


class JsonLines(Report):
    """One JSON object a line on standard output, for the training worker.

    The worker writes one line to standard input when the run may publish. When the worker ends, standard
    input closes, and this process exits.
    """

    def __init__(self) -> None:
        self._may_publish = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def phase(self, name: str) -> None:
        self._write(phase=name)

    def note(self, text: str) -> None:
        self._write(note=text)

    def begin(self, epochs: int, steps: int, done: Sequence[Epoch], device: str) -> None:  # noqa: ARG002
        self._write(epochs=epochs, device=device)
        for epoch in done:  # sent again: the previous attempt may have ended before its worker read them
            self.epoch(epoch)

    def epoch(self, epoch: Epoch) -> None:
        self._write(epoch=asdict(epoch))

    def publishing(self) -> None:
        self.phase("publishing")
        self._may_publish.wait()

    def published(self, artifact: Path, card: dict[str, Any]) -> None:  # noqa: ARG002
        self._write(published=artifact.name)

    def failed(self, error: CommandError) -> None:
        self._write(error={"title": error.title, "detail": str(error)})

    def _listen(self) -> None:
        while os.read(sys.stdin.fileno(), 1024):
            self._may_publish.set()
        os._exit(1)

    def _write(self, **message: Any) -> None:
        print(json.dumps(message), flush=True)
