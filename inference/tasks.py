"""The task `inference.classify`: claim, one forward pass, write, then acknowledge."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from inference.batching import BatchTask, Call
from inference.classifier import Classifier
from inference.errors import ClassificationError, DeviceLost
from inference.metrics import Metrics
from inference.outcomes import Claim, Database, Outcome, Run

logger = logging.getLogger(__name__)

Answer = tuple[NDArray[np.float32], np.float32]

SKIPPED = "skipped: already terminal, deleted, or claimed again"


class Classify(BatchTask):
    """Classify stored images. Its one argument is the prediction's id."""

    name = "inference.classify"

    def __init__(
        self, classifier: Classifier, database: Database, metrics: Metrics, max_batch_size: int
    ) -> None:
        super().__init__()
        self.database = database
        self.metrics = metrics
        self.max_batch_size = max_batch_size
        self.serve(classifier)

    def serve(self, classifier: Classifier) -> None:
        """Answer with this from the next batch on; from any thread."""
        self.classifier = classifier
        self.metrics.show_model(classifier.version, classifier.device_name)

    def describe(self) -> dict[str, Any]:
        classifier = self.classifier
        return {
            "model": classifier.version,
            "device": classifier.device_name,
            "fallback": classifier.fallback,
            "batches": self.collector.batches,
        }

    def run_batch(self, calls: Sequence[Call]) -> list[Any]:
        ids = [_parse_id(call.arguments) for call in calls]
        request_ids = {
            id: call.headers.get("request_id")
            for id, call in zip(ids, calls, strict=True)
            if isinstance(id, UUID)
        }
        claims = self.database.claim(list(request_ids))
        given_up = [Outcome.given_up(claim) for claim in claims if claim.given_up]
        self.metrics.count_given_up(len(given_up))
        _log(given_up, request_ids)
        finished = self.classify([claim for claim in claims if not claim.given_up], request_ids)
        outcomes = {outcome.claim.id: outcome for outcome in (*given_up, *finished)}
        for id in request_ids.keys() - outcomes.keys():
            logger.info(SKIPPED, extra={"prediction_id": str(id), "request_id": request_ids[id]})
        return [id if isinstance(id, Exception) else _report(outcomes.get(id)) for id in ids]

    def classify(self, claims: Sequence[Claim], request_ids: Mapping[UUID, Any]) -> list[Outcome]:
        """Run the claims and store their outcomes, one each; returns those that were written."""
        if not claims:
            return []
        classifier = self.classifier  # once: a swap must not come between an answer and its model's name
        started = time.perf_counter()
        answers = answer(classifier, [claim.pixels for claim in claims])
        predict_ms = (time.perf_counter() - started) * 1000
        outcomes = [
            _conclude(claim, classifier, answer) for claim, answer in zip(claims, answers, strict=True)
        ]
        run = Run(classifier.version, len(claims), round(predict_ms, 3))
        written = self.database.write(outcomes, run)
        finished = [outcome for outcome in outcomes if outcome.claim.id in written]
        self.metrics.count_batch(finished, run)
        _log(finished, request_ids, run)
        return finished


def answer(classifier: Classifier, images: Sequence[bytes]) -> list[Answer | ClassificationError]:
    """Probabilities (classes,) and energy for each image. When the batch raises, each image is tried
    alone, so that only the one at fault fails. Raises DeviceLost when it is none of them."""
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
            raise DeviceLost(f"a black image cannot be classified, either: {error!r}") from error
        return [ClassificationError("The model could not process this image; try another one.")]


def _conclude(claim: Claim, classifier: Classifier, answer: Answer | ClassificationError) -> Outcome:
    if isinstance(answer, ClassificationError):
        return Outcome.failed(claim, "Classification failed", str(answer))
    probabilities, energy = answer[0], round(float(answer[1]), 6)
    if not math.isfinite(energy) or not np.isfinite(probabilities).all():
        detail = "The model's answer for this image is no number; try another image."
        return Outcome.failed(claim, "Classification failed", detail)
    unfamiliar = classifier.is_unfamiliar(energy)
    return Outcome.succeeded(claim, classifier.classes, probabilities, energy, unfamiliar=unfamiliar)


def _parse_id(arguments: Sequence[Any]) -> UUID | Exception:
    try:
        (text,) = arguments
        return UUID(text)
    except (TypeError, ValueError, AttributeError):
        return ValueError(f"the arguments {arguments!r} are not one prediction id")


def _log(outcomes: Sequence[Outcome], request_ids: Mapping[UUID, Any], run: Run | None = None) -> None:
    """One line an outcome; `run` is the forward pass, if there was one."""
    for outcome in outcomes:
        fields = {
            "prediction_id": str(outcome.claim.id),
            "request_id": request_ids[outcome.claim.id],
            "status": outcome.status,
            "label": outcome.prediction,
            "confidence": outcome.confidence,
            "error": outcome.error_title,
            "batch_size": run and run.batch_size,
            "queue_ms": outcome.claim.queue_ms,
            "predict_ms": run and run.predict_ms,
        }
        logger.info("prediction finished", extra=fields)


def _report(outcome: Outcome | None) -> Any:
    """What Flower shows for a prediction."""
    if outcome is None:
        return SKIPPED
    if outcome.error_title is not None:
        return ClassificationError(outcome.error_detail)
    return f"{outcome.prediction} {outcome.confidence:.1%}"
