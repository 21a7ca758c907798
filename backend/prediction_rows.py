"""Rows of the table `predictions`: new ones to insert, and stored ones as the API shows them."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from uuid_utils.compat import uuid7

from backend.schemas.predictions import Prediction

logger = logging.getLogger(__name__)

# The columns that `to_prediction` reads.
COLUMNS = """id, filename, status::text AS status, prediction, confidence,
    probabilities::text AS probabilities, model, energy, unfamiliar, error_title, error_detail, "timestamp",
    started_at, completed_at, batch_size, predict_ms, feedback"""

# The members that have no value in a new prediction.
NO_OUTCOME: dict[str, Any] = {
    **dict.fromkeys(("prediction", "confidence", "model", "energy", "unfamiliar", "error", "feedback")),
    **dict.fromkeys(("started_at", "completed_at")),
    "probabilities": [],
    "metrics": {"queue_ms": None, "batch_size": None, "predict_ms": None},
}
UNREADABLE = {
    "title": "The stored details cannot be read",
    "detail": "The stored details of this prediction are malformed. The log of the backend names them. "
    "Upload the image again.",
}


@dataclass(frozen=True)
class NewPrediction:
    """A row to insert. Its id contains its time."""

    filename: str
    pixels: bytes
    bulk: bool
    """Whether the request has several files. Workers prefer messages of requests with a single file."""
    id: UUID = field(default_factory=uuid7)

    @property
    def timestamp(self) -> datetime:
        return datetime.fromtimestamp((self.id.int >> 80) / 1000, UTC)

    def as_queued(self) -> Prediction:
        """The prediction right after its insert, without reading the row."""
        known = {"id": self.id, "filename": self.filename, "status": "queued", "timestamp": self.timestamp}
        return Prediction.model_validate({**NO_OUTCOME, **known, "urls": _urls(self.id)})


def as_columns(rows: Sequence[NewPrediction]) -> dict[str, list[Any]]:
    """The parameters of an INSERT."""
    return {
        "ids": [row.id for row in rows],
        "filenames": [row.filename for row in rows],
        "timestamps": [row.timestamp for row in rows],
        "pixels": [row.pixels for row in rows],
        "bulk": [row.bulk for row in rows],
    }


def to_prediction(row: Row[Any]) -> Prediction:
    """A row as the API shows it. If a detail is malformed, such as after a manual change, all are left
    out, so that one malformed row does not break a page of the history or the streams."""
    try:
        return Prediction.model_validate(_always_valid(row) | _details(row))
    except Exception as error:
        _note_unreadable(row.id, f"{type(error).__name__}: {error}")
        return Prediction.model_validate(NO_OUTCOME | _always_valid(row) | {"error": UNREADABLE})


def _always_valid(row: Row[Any]) -> dict[str, Any]:
    """The members whose columns cannot hold malformed values."""
    return {
        "id": row.id,
        "filename": row.filename,
        "status": row.status,
        "prediction": row.prediction,
        "confidence": row.confidence,
        "model": row.model,
        "timestamp": row.timestamp,
        "completed_at": row.completed_at,
        "feedback": row.feedback,
        "urls": _urls(row.id),
    }


def _details(row: Row[Any]) -> dict[str, Any]:
    waited = row.started_at - row.timestamp if row.started_at else None
    return {
        "probabilities": json.loads(row.probabilities) if row.probabilities else [],
        "energy": row.energy,
        "unfamiliar": row.unfamiliar,
        "error": {"title": row.error_title, "detail": row.error_detail} if row.error_title else None,
        "started_at": row.started_at,
        "metrics": {
            "queue_ms": None if waited is None else max(0.0, round(waited.total_seconds() * 1000, 3)),
            "batch_size": row.batch_size,
            "predict_ms": row.predict_ms,
        },
    }


def _urls(id: UUID) -> dict[str, str]:
    place = f"/api/predictions/{id}"
    return {"self": place, "events": f"{place}/events", "image": f"{place}/image"}


@lru_cache(maxsize=1000)
def _note_unreadable(id: UUID, reason: str) -> None:
    """Log each row once, not at every read."""
    logger.error("a stored prediction is malformed", extra={"prediction_id": str(id), "reason": reason})
