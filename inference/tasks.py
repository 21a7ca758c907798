"""The task `inference.classify`: read the rows, one forward pass, write the outcomes."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from inference.classifier import Classifier
from inference.errors import ClassificationError, DeviceLost
from inference.metrics import Metrics
from inference.outcomes import Failed, Outcome, Row, Run, Succeeded
from inference.pipeline import BatchTask
from inference.predictions import Predictions

logger = logging.getLogger(__name__)

Answer = tuple[NDArray[np.float32], np.float32]
"""Probabilities (classes,) and the energy of one image."""

SKIPPED = "skipped: already terminal, deleted, or claimed again"
SLOW_SECONDS = 0.25
"""A batch that is expected to take longer is claimed first, so that its predictions are shown as running."""
FORGET = 0.1
"""The share of older measurements that each batch replaces in the estimate of the model's speed."""


class Classify(BatchTask):
    """Classify stored images. The only argument is a list of prediction ids."""

    name = "inference.classify"

    def __init__(
        self, classifier: Classifier, predictions: Predictions, metrics: Metrics, max_batch_size: int
    ) -> None:
        self.max_batch_size = max_batch_size
        super().__init__()
        self.predictions = predictions
        self.metrics = metrics
        self.speed = Speed()
        self.finished = 0
        """Predictions done since the worker started."""
        self.serve(classifier)

    def serve(self, classifier: Classifier) -> None:
        """Serve this model from the next batch on. May be called in any thread."""
        self.classifier = classifier
        self.metrics.show_model(classifier.version, classifier.device_name)

    def describe(self) -> dict[str, Any]:
        classifier = self.classifier
        return {
            "model": classifier.version,
            "device": classifier.device_name,
            "fallback": classifier.fallback,
            "batches": self.pipeline.batches,
            "predictions": self.finished,
        }

    def run_batch(
        self, request_ids: Mapping[UUID, str | None], next_stage: Callable[[], None], *, is_redelivered: bool
    ) -> Mapping[UUID, Outcome]:
        is_slow = self.speed.expect(len(request_ids)) > SLOW_SECONDS
        taken = self.predictions.take(request_ids, is_redelivered=is_redelivered, is_slow=is_slow)
        exhausted = [outcome for outcome in taken if isinstance(outcome, Failed)]
        self.metrics.count_exhausted(len(exhausted))
        _log(exhausted, request_ids)
        rows = [row for row in taken if isinstance(row, Row)]
        next_stage()
        classifier = self.classifier  # read once: a swap must not change the model's name during the batch
        answers, run = self.classify(classifier, rows)
        next_stage()  # from here on the device is free for the next batch
        outcomes = [_conclude(row, classifier, answer) for row, answer in zip(rows, answers, strict=True)]
        finished = self.write(outcomes, run) if outcomes else []
        _log(finished, request_ids, run)
        known = {outcome.row.id: outcome for outcome in (*exhausted, *finished)}
        for id in request_ids.keys() - known.keys():
            logger.info(SKIPPED, extra={"prediction_id": str(id), "request_id": request_ids[id]})
        self.finished += len(request_ids)
        return known

    def classify(
        self, classifier: Classifier, rows: Sequence[Row]
    ) -> tuple[list[Answer | ClassificationError], Run]:
        """One forward pass. Returns an answer for each row. Without rows the model does not run."""
        started = time.perf_counter()
        answers = answer(classifier, [row.pixels for row in rows]) if rows else []
        seconds = time.perf_counter() - started
        self.speed.measure(seconds, len(rows))
        return answers, Run(classifier.version, len(rows), round(seconds * 1000, 3))

    def write(self, outcomes: Sequence[Outcome], run: Run) -> list[Outcome]:
        """Store outcomes. Returns those that were written."""
        written = self.predictions.write(outcomes, run)
        finished = [outcome for outcome in outcomes if outcome.row.id in written]
        self.metrics.count_batch(finished, run)
        return finished

    def report(self, outcomes: Mapping[UUID, Outcome | None]) -> str | ClassificationError:
        found = list(outcomes.values())
        failed = sum(isinstance(outcome, Failed) for outcome in found)
        if len(found) == 1:
            text = str(found[0] or SKIPPED)
        else:
            counts = {"succeeded": len(found) - failed - found.count(None), "failed": failed}
            counts["skipped"] = found.count(None)
            told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
            text = f"{len(found)} predictions: {told}"
        return ClassificationError(text) if failed else text


class Speed:
    """A moving estimate of the time that the model takes for one image."""

    def __init__(self) -> None:
        self._seconds = self._images = 0.0
        self._seconds_an_image = 0.0

    def expect(self, images: int) -> float:
        """The seconds that `images` images will take; 0 before the first measurement."""
        return images * self._seconds_an_image

    def measure(self, seconds: float, images: int) -> None:
        """Add the measurement of one batch. A large batch counts for more than a small one."""
        self._seconds = self._seconds * (1 - FORGET) + seconds
        self._images = self._images * (1 - FORGET) + images
        if self._images:
            self._seconds_an_image = self._seconds / self._images


def answer(classifier: Classifier, images: Sequence[bytes]) -> list[Answer | ClassificationError]:
    """Classify images. If the batch raises, each image runs alone, so that only a bad image fails.

    Raises DeviceLost if the model also raises for a black image.
    """
    try:
        return list(zip(*classifier(images), strict=True))
    except Exception:
        if len(images) > 1:
            logger.exception("a batch of %d raised; its images run one by one", len(images))
            return [given for image in images for given in answer(classifier, [image])]
        logger.exception("an image could not be classified")
        try:
            classifier.warm_up(1)
        except Exception as error:
            raise DeviceLost(f"a black image cannot be classified: {error!r}") from error
        return [ClassificationError("The model could not process this image; try another one.")]


def _conclude(row: Row, classifier: Classifier, answer: Answer | ClassificationError) -> Outcome:
    if isinstance(answer, ClassificationError):
        return Failed(row, "Classification failed", str(answer))
    probabilities, energy = answer[0], round(float(answer[1]), 6)
    if not math.isfinite(energy) or not np.isfinite(probabilities).all():
        detail = "The model's answer for this image is not a number; try another image."
        return Failed(row, "Classification failed", detail)
    unfamiliar = classifier.is_unfamiliar(energy)
    return Succeeded.rank(row, classifier.classes, probabilities, energy, unfamiliar=unfamiliar)


def _log(outcomes: Sequence[Outcome], request_ids: Mapping[UUID, str | None], run: Run | None = None) -> None:
    """Log one line for each outcome. `run` is the forward pass, if there was one."""
    for outcome in outcomes:
        answer = outcome if isinstance(outcome, Succeeded) else None
        fields = {
            "prediction_id": str(outcome.row.id),
            "request_id": request_ids[outcome.row.id],
            "status": outcome.status,
            "label": answer and answer.label,
            "confidence": answer and answer.confidence,
            "error": outcome.title if isinstance(outcome, Failed) else None,
            "batch_size": run and run.batch_size,
            "queue_ms": outcome.row.queue_ms,
            "predict_ms": run and run.predict_ms,
        }
        logger.info("prediction finished", extra=fields)
