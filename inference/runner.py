"""One batch: read the rows, one forward pass, write the outcomes."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from inference.classifier import Classifier
from inference.engine import are_answers
from inference.errors import DeviceLost
from inference.metrics import Metrics
from inference.outcomes import SKIPPED, Failed, ForwardPass, Outcome, Row, Succeeded
from inference.predictions import Predictions

logger = logging.getLogger(__name__)

RequestIds = Mapping[UUID, str | None]
"""Predictions, each with the id of its HTTP request."""
ModelOutput = tuple[NDArray[np.float32], np.float32]
"""Probabilities (classes,) and the energy of one image."""

NOT_CLASSIFIED = "Classification failed"
"""The title of the failure if the model gives no usable output for an image."""
SLOW_SECONDS = 0.25
"""A batch that is expected to take longer is claimed first, so that its predictions are shown as running."""
FORGET = 0.1
"""In the estimate of the model's speed, each batch lowers the weight of older batches by this share."""


class BatchRunner:
    """Runs batches with the served model. The caller's `advance` waits until the next stage is free."""

    def __init__(self, classifier: Classifier, predictions: Predictions, metrics: Metrics) -> None:
        self.predictions = predictions
        self.metrics = metrics
        self.speed = Speed()
        self.finished = 0
        """Predictions since the worker started, skipped ones included."""
        self.serve(classifier)

    def serve(self, classifier: Classifier) -> None:
        """Serve this model from the next batch on. May be called in any thread."""
        self.classifier = classifier
        self.metrics.model.info({"version": classifier.version, "device": classifier.device_name})

    def describe(self) -> dict[str, Any]:
        """For heartbeats: the model, its device, any fallback, and how many predictions have finished."""
        classifier = self.classifier
        return {
            "model": classifier.version,
            "device": classifier.device_name,
            "fallback": classifier.fallback,
            "predictions": self.finished,
        }

    def run(
        self, request_ids: RequestIds, advance: Callable[[], None], *, is_redelivered: bool
    ) -> Mapping[UUID, Outcome]:
        """Run predictions; returns the outcomes that were written.

        Calls `advance` before it uses the device, and again before it writes. After DeviceLost the caller
        ends the process. After any other exception the caller returns the messages to the broker.
        """
        is_slow = self.speed.expect(len(request_ids)) > SLOW_SECONDS
        taken = self.predictions.take(request_ids, is_redelivered=is_redelivered, is_slow=is_slow)
        exhausted = [outcome for outcome in taken if isinstance(outcome, Failed)]
        self.metrics.by_status["failed"].inc(len(exhausted))
        _log(exhausted, request_ids)
        rows = [row for row in taken if isinstance(row, Row)]
        advance()
        classifier = self.classifier  # read once: a swap must not change the model's name during the batch
        started = time.perf_counter()
        outputs = run_model(classifier, [row.pixels for row in rows]) if rows else []
        seconds = time.perf_counter() - started
        self.speed.measure(seconds, len(rows))
        advance()  # from here on the device is free for the next batch
        outcomes = [conclude(row, classifier, output) for row, output in zip(rows, outputs, strict=True)]
        forward_pass = ForwardPass(classifier.version, len(rows), round(seconds * 1000, 3))
        stored: list[Outcome] = []
        if outcomes:
            written = self.predictions.write(outcomes, forward_pass)
            stored = [outcome for outcome in outcomes if outcome.row.id in written]
            self.metrics.count_batch(stored, forward_pass)
        _log(stored, request_ids, forward_pass)
        known = {outcome.row.id: outcome for outcome in (*exhausted, *stored)}
        for id in request_ids.keys() - known.keys():
            logger.info(SKIPPED, extra={"prediction_id": str(id), "request_id": request_ids[id]})
        self.finished += len(request_ids)
        return known


class Speed:
    """A moving estimate of the time that the model takes for one image."""

    def __init__(self) -> None:
        self._seconds = self._images = self._seconds_an_image = 0.0

    def expect(self, images: int) -> float:
        """The seconds that `images` images will take; 0 before the first measurement."""
        return images * self._seconds_an_image

    def measure(self, seconds: float, images: int) -> None:
        """Add the measurement of one batch. A large batch counts for more than a small one."""
        self._seconds = self._seconds * (1 - FORGET) + seconds
        self._images = self._images * (1 - FORGET) + images
        if self._images:
            self._seconds_an_image = self._seconds / self._images


def run_model(classifier: Classifier, images: Sequence[bytes]) -> list[ModelOutput | None]:
    """Classify images. An image without a valid answer gets None.

    If the batch raises, each image runs alone, so that only a bad image gets None. Raises DeviceLost if the
    model also raises for a black image.
    """
    try:
        probabilities, energies = classifier(images)
        answers = zip(probabilities, energies, are_answers(probabilities, energies), strict=True)
        return [(p, energy) if is_answer else None for p, energy, is_answer in answers]
    except Exception:
        if len(images) > 1:
            logger.exception("a batch of %d raised; its images run one by one", len(images))
            return [output for image in images for output in run_model(classifier, [image])]
        logger.exception("an image could not be classified")
        try:
            classifier.warm_up(1)
        except Exception as error:
            raise DeviceLost(f"a black image cannot be classified: {error!r}") from error
        return [None]


def conclude(row: Row, classifier: Classifier, output: ModelOutput | None) -> Outcome:
    """The outcome of a row with this output of the model."""
    if output is None:
        return Failed(row, NOT_CLASSIFIED, "The model could not process this image; try another one.")
    probabilities, energy = output[0], round(float(output[1]), 6)
    order = np.argsort(-probabilities, kind="stable")
    ranked = [(classifier.classes[i], round(min(float(probabilities[i]), 1.0), 6)) for i in order]
    stored = json.dumps([{"label": label, "probability": probability} for label, probability in ranked])
    label, confidence = ranked[0]
    return Succeeded(row, label, confidence, stored, energy, classifier.is_unfamiliar(energy))


def _log(
    outcomes: Sequence[Outcome], request_ids: RequestIds, forward_pass: ForwardPass | None = None
) -> None:
    """Log one line for each outcome, with the forward pass if there was one."""
    for outcome in outcomes:
        succeeded = outcome if isinstance(outcome, Succeeded) else None
        fields = {
            "prediction_id": str(outcome.row.id),
            "request_id": request_ids[outcome.row.id],
            "status": outcome.status,
            "label": succeeded and succeeded.label,
            "confidence": succeeded and succeeded.confidence,
            "error": outcome.title if isinstance(outcome, Failed) else None,
            "batch_size": forward_pass and forward_pass.batch_size,
            "queue_ms": outcome.row.queue_ms,
            "predict_ms": forward_pass and forward_pass.predict_ms,
        }
        logger.info("prediction finished", extra=fields)
