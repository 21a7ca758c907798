"""The worker's SQL for the tables `trainings` and `epochs`. It also reads `models`.

While the database is unreachable a statement is retried. Meanwhile the child process continues to train,
and its reports wait in the worker's memory.
"""

import threading
from collections.abc import Mapping
from typing import Any, LiteralString
from uuid import UUID

from celery_worker.database import Connection
from training.worker.run import MAX_ATTEMPTS, Lost, Model, Run

STALE_SECONDS = 15.0  # after so long without an update of `seen_at`, another worker may claim the run

# Claim a run that is queued, or that no worker has updated for STALE_SECONDS.
CLAIM = """
UPDATE trainings SET
    status = 'running', phase = NULL, started_at = coalesce(started_at, clock_timestamp()),
    seen_at = clock_timestamp(), attempt = attempt + 1
WHERE id = $1
    AND (status = 'queued' OR status = 'running' AND seen_at < clock_timestamp() - $2 * interval '1 second')
RETURNING id, recipe, seed, epochs, data, activation, attempt
"""

# Return a row if the run still belongs to this attempt. Every five seconds, record that its worker is alive.
CHECK = """
WITH seen AS (
    UPDATE trainings SET seen_at = clock_timestamp()
    WHERE id = $1 AND attempt = $2 AND status = 'running'
        AND seen_at < clock_timestamp() - interval '5 seconds')
SELECT id FROM trainings WHERE id = $1 AND attempt = $2 AND status = 'running'
"""

# Store the number of epochs, the device and the phase that a run reports.
REPORTED = """
UPDATE trainings SET
    epochs = coalesce($3::integer, epochs), device = coalesce($4, device), phase = coalesce($5, phase)
WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING id
"""

# Store one epoch. An epoch that a resumed run reports again changes nothing.
EPOCH = """
WITH mine AS (SELECT id FROM trainings WHERE id = $1 AND attempt = $2 AND status = 'running'),
added AS (
    INSERT INTO epochs (training, number, loss, accuracy, validation_accuracy, learning_rate,
                        images_per_second, seconds_left)
    SELECT id, $3, $4, $5, $6, $7, $8, $9 FROM mine
    ON CONFLICT (training, number) DO NOTHING)
SELECT id FROM mine
"""

# Make the inference workers look for new models at once.
ANNOUNCE = "SELECT pg_notify('models', '')"

# Why the inference workers refused a published model, and whether it is active but no worker serves it yet.
MODEL = """
SELECT error, activated_at IS NOT NULL AND (served_at IS NULL OR served_at < activated_at)
    AND version = (SELECT version FROM models WHERE error IS NULL AND activated_at IS NOT NULL
                   ORDER BY activated_at DESC LIMIT 1)
FROM models WHERE version = $1
"""

# Store a run's outcome: a version, or an error. `attempt` becomes at most MAX_ATTEMPTS ($6).
FINISH = """
UPDATE trainings SET
    status = (CASE WHEN $3::text IS NULL THEN 'failed' ELSE 'succeeded' END)::training_status,
    model = $3, error_title = $4, error_detail = $5, phase = NULL, completed_at = clock_timestamp(),
    attempt = least(attempt, $6)
WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING id
"""

# Set a run back to `queued`. The attempt does not count. The relay finds the run by its recent
# `seen_at`, and publishes a message.
HAND_BACK = """
UPDATE trainings SET status = 'queued', phase = NULL, seen_at = clock_timestamp(), attempt = attempt - 1
WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING id
"""

# The runs that have not ended.
UNFINISHED = "SELECT id FROM trainings WHERE status IN ('queued', 'running')"

FIGURES = ("loss", "accuracy", "validation_accuracy", "learning_rate", "images_per_second", "seconds_left")


class Runs:
    """Reads and writes runs, from one thread.

    Every method that takes a Run raises Lost if the row no longer belongs to its attempt. All methods raise
    Stopped if the database is unreachable while the worker shuts down.
    """

    def __init__(self, url: str, stopping: threading.Event) -> None:
        self._connection = Connection(url, "training", stopping)

    def claim(self, id: UUID) -> Run | None:
        """Claim a run; None if it has ended, was deleted or belongs to another worker."""
        rows = self._connection.execute(CLAIM, (id, STALE_SECONDS))
        return Run(*rows[0]) if rows else None

    def check(self, run: Run) -> None:
        self._execute_for(run, CHECK)

    def store_report(
        self, run: Run, epochs: int | None = None, device: str | None = None, phase: str | None = None
    ) -> None:
        self._execute_for(run, REPORTED, epochs, device, phase)

    def add_epoch(self, run: Run, epoch: Mapping[str, Any]) -> None:
        self._execute_for(run, EPOCH, int(epoch["number"]), *(float(epoch[name]) for name in FIGURES))

    def succeed(self, run: Run, version: str) -> None:
        self._execute_for(run, FINISH, version, None, None, MAX_ATTEMPTS)

    def fail(self, run: Run, title: str, detail: str) -> None:
        self._execute_for(run, FINISH, None, title, detail, MAX_ATTEMPTS)

    def hand_back(self, run: Run) -> None:
        self._execute_for(run, HAND_BACK)

    def announce(self) -> None:
        self._connection.execute(ANNOUNCE, ())

    def find_model(self, version: str) -> Model | None:
        rows = self._connection.execute(MODEL, (version,))
        return Model(*rows[0]) if rows else None

    def unfinished(self) -> set[UUID]:
        return {id for (id,) in self._connection.execute(UNFINISHED, ())}

    def close(self) -> None:
        self._connection.close()

    def _execute_for(self, run: Run, statement: LiteralString, *values: Any) -> None:
        if not self._connection.execute(statement, (run.id, run.attempt, *values)):
            raise Lost(f"{run.id} is canceled, deleted or claimed again")
