"""The task `inference.classify`: claim, one forward pass, write, then acknowledge."""

import logging
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from inference.batching import BatchTask
from inference.classifier import Classifier
from inference.errors import ClassificationError
from inference.outcomes import Claim, Database, Outcome, Run

logger = logging.getLogger(__name__)

SKIPPED = "skipped: already terminal, or deleted"


class Classify(BatchTask):
    """Classify stored images. Its one argument is the prediction's id."""

    name = "inference.classify"

    def __init__(self, classifier: Classifier, database: Database, max_batch_size: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.database = database
        self.max_batch_size = max_batch_size

    def describe(self) -> dict[str, Any]:
        return {
            "model": self.classifier.version,
            "device": self.classifier.device_name,
            "batches": self.collector.batches,
        }

    def run_batch(self, calls: Sequence[Sequence[Any]]) -> list[Any]:
        ids = [_parse_id(arguments) for arguments in calls]
        claims = self.database.claim([id for id in ids if isinstance(id, UUID)])
        outcomes = {outcome.claim.id: outcome for outcome in self.classify(claims)}
        return [id if isinstance(id, Exception) else _report(outcomes.get(id)) for id in ids]

    def classify(self, claims: Sequence[Claim]) -> list[Outcome]:
        """Run and store the claims; each gets exactly one outcome."""
        if not claims:
            return []
        started = time.perf_counter()
        answers = self.answer([claim.pixels for claim in claims])
        predict_ms = (time.perf_counter() - started) * 1000
        outcomes = [
            Outcome.failed(claim, "Classification failed", str(answer))
            if isinstance(answer, ClassificationError)
            else Outcome.succeeded(claim, self.classifier.classes, answer)
            for claim, answer in zip(claims, answers, strict=True)
        ]
        self.database.write(outcomes, Run(self.classifier.version, len(claims), round(predict_ms, 3)))
        return outcomes

    def answer(self, images: Sequence[bytes]) -> list[NDArray[np.float32] | ClassificationError]:
        """Probabilities for each image. When the batch raises, each image is tried alone, so that
        only the one at fault fails."""
        try:
            return list(self.classifier(images))
        except Exception:
            if len(images) > 1:
                logger.exception("a batch of %d raised; its images run one by one", len(images))
                return [answer for image in images for answer in self.answer([image])]
            logger.exception("an image could not be classified")
            return [ClassificationError("The model could not process this image; try another one.")]


def _parse_id(arguments: Sequence[Any]) -> UUID | Exception:
    try:
        (text,) = arguments
        return UUID(text)
    except (TypeError, ValueError, AttributeError):
        return ValueError(f"the arguments {arguments!r} are not one prediction id")


def _report(outcome: Outcome | None) -> Any:
    """What Flower shows for a prediction."""
    if outcome is None:
        return SKIPPED
    if outcome.error_title is not None:
        return ClassificationError(outcome.error_detail)
    return f"{outcome.prediction} {outcome.confidence:.1%}"
