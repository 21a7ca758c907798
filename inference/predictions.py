"""The worker's SQL for the table `predictions`: it reads or claims rows, and writes outcomes.

Each statement is one round trip for a whole batch. While the database is unreachable a statement is retried.
The messages stay unacknowledged meanwhile, so no prediction is lost and no message counts as redelivered.
"""

import threading
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from celery_worker.database import Connection
from inference.outcomes import Failed, ForwardPass, Outcome, Row, Succeeded

MAX_ATTEMPTS = 3
# Planning took half the time of READ, so each statement is planned once. The table may be empty at that time,
# and PostgreSQL would plan to scan the whole table, so such scans are switched off.
PLAN_ONCE = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off"

# Read the queued rows that no worker has claimed. Changes nothing.
READ = """
SELECT id, pixels, 0, now, (extract(epoch FROM now - "timestamp") * 1000)::double precision
FROM predictions CROSS JOIN clock_timestamp() AS now
WHERE id = ANY($1::uuid[]) AND status = 'queued' AND attempt = 0
"""

# Claim unfinished rows, in id order so that two workers never deadlock. A row that has no attempt left fails
# instead. A redelivered row with attempt 0 may have been read by a worker that then ended. So the
# first delivery counts as attempt 1, and the claim as attempt 2.
CLAIM = """
UPDATE predictions SET
    status = (CASE WHEN attempt < $2 THEN 'running' ELSE 'failed' END)::prediction_status,
    started_at = CASE WHEN attempt < $2 THEN clock_timestamp() ELSE started_at END,
    completed_at = CASE WHEN attempt < $2 THEN NULL ELSE clock_timestamp() END,
    error_title = CASE WHEN attempt < $2 THEN NULL ELSE 'Failed after ' || $2 || ' attempts' END,
    error_detail = CASE WHEN attempt < $2 THEN NULL
        ELSE 'The worker stopped ' || attempt || ' times while it had this image; upload it again.' END,
    attempt = CASE WHEN $3::boolean AND attempt = 0 THEN 2 ELSE least(attempt + 1, $2) END
WHERE id IN (SELECT id FROM predictions
             WHERE id = ANY($1::uuid[]) AND status IN ('queued', 'running')
             ORDER BY id FOR UPDATE)
RETURNING id, pixels, attempt, started_at,
    (extract(epoch FROM started_at - "timestamp") * 1000)::double precision, error_title, error_detail
"""

# Write a batch's outcomes and return the ids of the rows that changed. An outcome changes nothing if its row
# is terminal, or if another attempt has claimed the row since. A row that was read and not claimed gets
# attempt 1 here.
WRITE = """
UPDATE predictions SET
    status = outcome.status::prediction_status,
    prediction = outcome.prediction,
    confidence = outcome.confidence,
    probabilities = outcome.probabilities::jsonb,
    energy = outcome.energy,
    unfamiliar = outcome.unfamiliar,
    model = CASE WHEN outcome.status = 'succeeded' THEN $11::text END,
    error_title = outcome.error_title,
    error_detail = outcome.error_detail,
    attempt = greatest(outcome.attempt, 1),
    started_at = outcome.started_at,
    completed_at = clock_timestamp(),
    batch_size = $12::integer,
    predict_ms = $13::double precision
FROM unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::text[], $5::double precision[], $6::text[],
            $7::double precision[], $8::boolean[], $9::text[], $10::text[])
    AS given (id, attempt, started_at, prediction, confidence, probabilities, energy, unfamiliar,
              error_title, error_detail)
CROSS JOIN LATERAL (SELECT given.*,
    CASE WHEN given.error_title IS NULL THEN 'succeeded' ELSE 'failed' END AS status) AS outcome
WHERE predictions.id = outcome.id AND predictions.attempt = outcome.attempt
    AND predictions.status = (CASE outcome.attempt WHEN 0 THEN 'queued' ELSE 'running' END)::prediction_status
RETURNING predictions.id
"""


class Predictions:
    """`take` and `write` each have a connection: one thread may call `take` while another calls `write`."""

    def __init__(self, url: str, stopping: threading.Event) -> None:
        # A claim that is lost in a power cut is made again, so it need not wait for the disk.
        options = f"{PLAN_ONCE} -c synchronous_commit=off"
        self._taker = Connection(url, "inference", stopping, options)
        self._writer = Connection(url, "inference", stopping, PLAN_ONCE)

    def take(
        self, ids: Collection[UUID], *, is_redelivered: bool = False, is_slow: bool = False
    ) -> list[Row | Failed]:
        """The unfinished rows among `ids`; rows without an attempt left come as Failed. Raises Stopped.

        The rows of a first delivery are read. Rows are claimed if they were redelivered, if they were claimed
        before, or if the batch will take long (`is_slow`).
        """
        rows: list[Row | Failed] = []
        if not (is_redelivered or is_slow):
            rows += [_build_row(*columns) for columns in self._taker.execute(READ, (list(ids),))]
        missing = set(ids).difference(row.id for row in rows if isinstance(row, Row))
        if missing:  # READ was not run, or these rows were claimed before, are terminal or were deleted
            claimed = self._taker.execute(CLAIM, (list(missing), MAX_ATTEMPTS, is_redelivered))
            for *columns, title, detail in claimed:
                row = _build_row(*columns)
                rows.append(row if title is None else Failed(row, title, detail))
        return rows

    def write(self, outcomes: Sequence[Outcome], forward_pass: ForwardPass) -> set[UUID]:
        """Commit a batch's outcomes. Returns the ids of the rows that changed. Raises Stopped.

        If the connection breaks just after the commit, the retry finds terminal rows and returns no ids. So
        the metrics can be too low, never too high.
        """
        # In id order, so that two workers with the same rows never deadlock.
        columns = zip(*map(_build_columns, sorted(outcomes, key=lambda outcome: outcome.row.id)), strict=True)
        shared = (forward_pass.model, forward_pass.batch_size, forward_pass.predict_ms)
        parameters = (*map(list, columns), *shared)
        return {id for (id,) in self._writer.execute(WRITE, parameters)}

    def close(self) -> None:
        for connection in (self._taker, self._writer):
            connection.close()


def _build_row(id: UUID, pixels: bytes, attempt: int, started_at: Any, queue_ms: float | None) -> Row:
    return Row(id, pixels, attempt, started_at, round(max(0.0, queue_ms or 0.0), 3))


def _build_columns(outcome: Outcome) -> tuple[Any, ...]:
    """The values of WRITE from `id` to `error_detail`."""
    row = outcome.row
    match outcome:
        case Succeeded(_, label, confidence, probabilities, energy, unfamiliar):
            values = (label, confidence, probabilities, energy, unfamiliar, None, None)
        case Failed(_, title, detail):
            values = (None, None, None, None, None, title, detail)
    return (row.id, row.attempt, row.started_at, *values)
