"""What a run says of itself while it goes on: to a person at a terminal, or as JSON lines to a program."""

import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm


@dataclass(frozen=True)
class Epoch:
    """One epoch, measured."""

    number: int  # from 1
    loss: float  # mean cross-entropy an image, on what was trained on
    accuracy: float  # on the augmented images that were trained on
    validation_accuracy: float  # on images that are held out
    learning_rate: float  # of the filters, at its end
    images_per_second: float
    seconds_left: float  # until the last epoch's end, estimated


class Report(Protocol):
    """Who hears of a run, in this order: phases, within some of them epochs of steps, the end."""

    def phase(self, name: str) -> None: ...

    def note(self, text: str) -> None:
        """What its user should know; ends nothing."""
        ...

    def begin(self, epochs: int, steps: int, done: Sequence[Epoch], device: str) -> None:
        """So many epochs of so many steps, of which some are done already."""
        ...

    def step(self) -> None: ...

    def epoch(self, epoch: Epoch) -> None: ...

    def publishing(self) -> None:
        """The last phase; returns once the run may publish."""
        ...

    def published(self, artifact: Path, card: dict[str, Any]) -> None: ...


class Terminal:
    """A progress bar of steps, and a line an epoch."""

    def __init__(self) -> None:
        self._name = ""
        self._bar: tqdm[Any] | None = None

    def phase(self, name: str) -> None:
        self._close()
        self._name = name

    def note(self, text: str) -> None:
        tqdm.write(text)

    def begin(self, epochs: int, steps: int, done: Sequence[Epoch], device: str) -> None:
        tqdm.write(f"{self._name}: {epochs} epochs on {device}")
        self._bar = tqdm(
            total=epochs * steps, initial=len(done) * steps, desc=self._name, unit="step", disable=None
        )

    def step(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def epoch(self, epoch: Epoch) -> None:
        tqdm.write(
            f"epoch {epoch.number:3}: loss {epoch.loss:.3f}, accuracy {epoch.accuracy:.1%}, "
            f"held out {epoch.validation_accuracy:.1%}, learning rate {epoch.learning_rate:.3f}, "
            f"{epoch.images_per_second:,.0f} images/s, {epoch.seconds_left:.0f} s left"
        )

    def publishing(self) -> None:
        self.phase("publishing")

    def published(self, artifact: Path, card: dict[str, Any]) -> None:
        self._close()
        print(f"published {artifact}: {card['accuracy']:.2%} of the test images, one view, as served")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class JsonLines:
    """One JSON object a line on standard output, for the training worker.

    On standard input the worker answers with a line that the model may be published; where that ends, so
    does the worker, and this process with it.
    """

    def __init__(self) -> None:
        self._may_publish = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def phase(self, name: str) -> None:
        self._write({"phase": name})

    def note(self, text: str) -> None:
        self._write({"note": text})

    def begin(self, epochs: int, steps: int, done: Sequence[Epoch], device: str) -> None:  # noqa: ARG002
        self._write({"epochs": epochs, "device": device})
        for epoch in done:  # again: an attempt before may have ended with the word unheard
            self.epoch(epoch)

    def step(self) -> None:
        pass

    def epoch(self, epoch: Epoch) -> None:
        self._write({"epoch": asdict(epoch)})

    def publishing(self) -> None:
        self.phase("publishing")
        self._may_publish.wait()

    def published(self, artifact: Path, card: dict[str, Any]) -> None:  # noqa: ARG002
        self._write({"published": artifact.name})

    def _listen(self) -> None:
        while os.read(sys.stdin.fileno(), 1024):
            self._may_publish.set()
        os._exit(1)

    def _write(self, message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


class Silent:
    """For processes that are not the first."""

    def phase(self, name: str) -> None: ...

    def note(self, text: str) -> None: ...

    def begin(self, epochs: int, steps: int, done: Sequence[Epoch], device: str) -> None: ...

    def step(self) -> None: ...

    def epoch(self, epoch: Epoch) -> None: ...

    def publishing(self) -> None: ...

    def published(self, artifact: Path, card: dict[str, Any]) -> None: ...
