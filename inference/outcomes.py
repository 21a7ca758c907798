"""Rows claimed and outcomes written: the worker's side of the table `predictions`.

Each statement is one round trip for a whole batch. A statement that finds the database away waits
for it and tries again: the messages stay unacknowledged meanwhile, so nothing is lost and nothing
counts as another delivery.
"""

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray

from inference.database import connect
from inference.errors import Stopped

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
RETRY_SECONDS = 1.0

# Take the batch's unfinished rows, in id order so that two workers never wait for each other; a row
# that has used up its attempts is given up instead.
CLAIM = """
UPDATE predictions SET
    status = (CASE WHEN attempt < $2 THEN 'running' ELSE 'failed' END)::prediction_status,
    started_at = CASE WHEN attempt < $2 THEN clock_timestamp() ELSE started_at END,
    completed_at = CASE WHEN attempt < $2 THEN NULL ELSE clock_timestamp() END,
    error_title = CASE WHEN attempt < $2 THEN NULL ELSE 'Given up' END,
    error_detail = CASE WHEN attempt < $2 THEN NULL
        ELSE 'The worker stopped ' || attempt || ' times while it had this image; upload it again.' END,
    attempt = least(attempt + 1, $2)
WHERE id IN (SELECT id FROM predictions
             WHERE id = ANY($1::uuid[]) AND status IN ('queued', 'running')
             ORDER BY id FOR UPDATE)
RETURNING id, pixels, attempt,
    (extract(epoch FROM started_at - "timestamp") * 1000)::double precision, error_title, error_detail
"""

# Write a batch's outcomes and return the ids of those written; one whose attempt is no longer the
# latest, or whose row is terminal already, changes nothing.
WRITE = """
UPDATE predictions SET
    status = outcome.status::prediction_status,
    prediction = outcome.prediction,
    confidence = outcome.confidence,
    probabilities = outcome.probabilities::jsonb,
    energy = outcome.energy,
    unfamiliar = outcome.unfamiliar,
    model = CASE WHEN outcome.status = 'succeeded' THEN $10::text END,
    error_title = outcome.error_title,
    error_detail = outcome.error_detail,
    completed_at = clock_timestamp(),
    batch_size = $11::integer,
    predict_ms = $12::double precision
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::double precision[], $5::text[],
            $6::double precision[], $7::boolean[], $8::text[], $9::text[])
    AS given (id, attempt, prediction, confidence, probabilities, energy, unfamiliar, error_title,
              error_detail)
CROSS JOIN LATERAL (SELECT given.*,
    CASE WHEN given.error_title IS NULL THEN 'succeeded' ELSE 'failed' END AS status) AS outcome
WHERE predictions.id = outcome.id AND predictions.attempt = outcome.attempt
    AND predictions.status = 'running'
RETURNING predictions.id
"""

STATEMENTS: dict[str, LiteralString] = {
    "CLAIM": CLAIM,
    "WRITE": WRITE,
}


@dataclass(frozen=True)
class Claim:
    """A row that this worker may run: its pixels, and the attempt that its outcome must name."""

    id: UUID
    pixels: bytes
    attempt: int
    queue_ms: float = 0.0
    """From its upload to this claim."""
    error_title: str | None = None
    """Set when its attempts are used up: the claim has made the row fail, and it must not run."""
    error_detail: str | None = None

    @property
    def given_up(self) -> bool:
        return self.error_title is not None


@dataclass(frozen=True)
class Outcome:
    """What became of one claim: an answer, or an error and no answer."""

    claim: Claim
    prediction: str | None = None
    confidence: float | None = None
    probabilities: str | None = None
    """JSON as the row stores it."""
    energy: float | None = None
    unfamiliar: bool | None = None
    error_title: str | None = None
    error_detail: str | None = None

    @property
    def status(self) -> str:
        return "succeeded" if self.error_title is None else "failed"

    @classmethod
    def succeeded(
        cls,
        claim: Claim,
        classes: Sequence[str],
        probabilities: NDArray[np.float32],
        energy: float,
        *,
        unfamiliar: bool | None,
    ) -> "Outcome":
        """probabilities: floats (classes,), in the order of `classes`."""
        order = np.argsort(-probabilities, kind="stable")
        ranked = [(classes[int(index)], round(float(probabilities[index]), 6)) for index in order]
        stored = [{"label": label, "probability": probability} for label, probability in ranked]
        label, confidence = ranked[0]
        return cls(claim, label, confidence, json.dumps(stored), energy, unfamiliar)

    @classmethod
    def given_up(cls, claim: Claim) -> "Outcome":
        """In the words that the claim has stored."""
        return cls(claim, error_title=claim.error_title, error_detail=claim.error_detail)

    @classmethod
    def failed(cls, claim: Claim, title: str, detail: str) -> "Outcome":
        return cls(claim, error_title=title, error_detail=detail)


@dataclass(frozen=True)
class Run:
    """The forward pass that a batch's outcomes came from."""

    model: str
    batch_size: int
    predict_ms: float


class Database:
    """The worker's connections, for one thread."""

    def __init__(self, url: str) -> None:
        self._stopping = threading.Event()
        # A claim that a power cut forgets is claimed again, so it need not wait for the disk.
        self._claims = _Connection(url, "-c synchronous_commit=off", self._stopping)
        self._outcomes = _Connection(url, "", self._stopping)

    def claim(self, ids: Sequence[UUID]) -> list[Claim]:
        """Claim what is unfinished among `ids`; the rest is terminal or gone."""
        rows = self._claims.execute(CLAIM, (list(ids), MAX_ATTEMPTS)) or []
        return [
            Claim(id, pixels, attempt, round(max(0.0, queue_ms or 0.0), 3), *error)
            for id, pixels, attempt, queue_ms, *error in rows
        ]

    def write(self, outcomes: Sequence[Outcome], run: Run) -> set[UUID]:
        """Commit a batch's outcomes; returns the ids of those written, when they are on disk.

        If the connection breaks just after the commit, the second try finds the rows terminal and the ids
        are missing: a figure can be too low, never too high.
        """
        columns = (
            [outcome.claim.id for outcome in outcomes],
            [outcome.claim.attempt for outcome in outcomes],
            [outcome.prediction for outcome in outcomes],
            [outcome.confidence for outcome in outcomes],
            [outcome.probabilities for outcome in outcomes],
            [outcome.energy for outcome in outcomes],
            [outcome.unfamiliar for outcome in outcomes],
            [outcome.error_title for outcome in outcomes],
            [outcome.error_detail for outcome in outcomes],
        )
        rows = self._outcomes.execute(WRITE, (*columns, run.model, run.batch_size, run.predict_ms)) or []
        return {id for (id,) in rows}

    def stop(self) -> None:
        """Stop waiting for a database that is away."""
        self._stopping.set()

    def close(self) -> None:
        for connection in (self._claims, self._outcomes):
            connection.close()


class _Connection:
    """One autocommitting connection that comes back after the database does."""

    def __init__(self, url: str, options: str, stopping: threading.Event) -> None:
        self._url = url
        self._options = options
        self._stopping = stopping
        self._connection: psycopg.Connection[Any] | None = None

    def execute(self, statement: LiteralString, parameters: Sequence[Any]) -> list[tuple[Any, ...]] | None:
        """Run one statement; its rows, or None when it returns none. Raises Stopped."""
        while True:
            try:
                cursor = self._open().execute(statement, parameters, prepare=True, binary=True)
                return cursor.fetchall() if cursor.description else None
            except psycopg.OperationalError as error:
                logger.warning("the database is away, trying again: %s", str(error).strip())
                self.close()
                if self._stopping.wait(RETRY_SECONDS):
                    raise Stopped from error

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect(self._url, "inference", self._options)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
