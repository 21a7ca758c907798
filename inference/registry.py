"""The worker's SQL for the table `models`: which versions exist, and which one is active.

The active version is the one activated last among those without an error. Every INSERT and UPDATE, even one
that changes no row, notifies the channel `models`. So the worker runs these statements only when needed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from celery_worker.database import connect

CHANNEL = "models"

# The active version, the SHA-256 of its float32 model at its registration, whether a worker has served it
# since its activation, whether any version is usable, and which of the given names have no row.
LOOK = """
SELECT active.version, active.sha256, coalesce(active.served_at >= active.activated_at, false),
    EXISTS (SELECT FROM models WHERE error IS NULL),
    ARRAY(SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS given (name, place)
          WHERE NOT EXISTS (SELECT FROM models WHERE version = name) ORDER BY place)
FROM (VALUES (1)) AS always
LEFT JOIN (SELECT version, card #>> '{files,model.onnx,sha256}' AS sha256, activated_at, served_at FROM models
           WHERE error IS NULL AND activated_at IS NOT NULL
           ORDER BY activated_at DESC LIMIT 1) AS active ON true
"""

# One registration at a time, so that each sees the version that the previous one activated.
TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('models'))"

# Add a version that can be served. Activate it if no version is active, or if its card asks for that:
# `always`, or `better` (the default) if its accuracy on the same test images is higher. The new
# `activated_at` is later than all others, even if the clock was set back.
REGISTER = """
WITH active AS (SELECT card FROM models
                WHERE error IS NULL AND activated_at IS NOT NULL ORDER BY activated_at DESC LIMIT 1)
INSERT INTO models (version, card, activated_at)
SELECT $1, found.card, CASE WHEN
        active.card IS NULL
        OR found.card ->> 'activation' = 'always'
        OR (coalesce(found.card ->> 'activation', 'better') = 'better'
            AND found.card #>> '{data,test_sha256}' = active.card #>> '{data,test_sha256}'
            AND found.card -> 'accuracy' > active.card -> 'accuracy')
    THEN GREATEST(clock_timestamp(), (SELECT max(activated_at) FROM models) + interval '1 microsecond') END
FROM (VALUES ($2::jsonb)) AS found (card) LEFT JOIN active ON true
ON CONFLICT DO NOTHING
RETURNING activated_at IS NOT NULL
"""

# Add a version that cannot be served, with the reason. Its card is not stored: the database may refuse it.
REGISTER_REFUSED = """
INSERT INTO models (version, card, error) VALUES ($1, '{}', $2) ON CONFLICT DO NOTHING RETURNING true
"""

# Refuse a version that was usable when registered. If it was active, the previous version is active again.
REFUSE = "UPDATE models SET error = $2 WHERE version = $1 AND error IS NULL"

# If no version is active, activate the usable version that was found last.
ACTIVATE_LATEST = """
UPDATE models SET activated_at = GREATEST(
    clock_timestamp(), (SELECT max(activated_at) FROM models) + interval '1 microsecond')
WHERE version = (SELECT version FROM models WHERE error IS NULL ORDER BY found_at DESC, version DESC LIMIT 1)
    AND NOT EXISTS (SELECT FROM models WHERE error IS NULL AND activated_at IS NOT NULL)
"""

# Record that a worker serves the version.
MARK_SERVED = "UPDATE models SET served_at = GREATEST(clock_timestamp(), activated_at) WHERE version = $1"


@dataclass(frozen=True)
class View:
    """The state of the table."""

    active: str | None
    sha256: str | None
    """SHA-256 of the active version's float32 model, from the card that was registered."""
    is_served: bool
    """Whether a worker has served the active version since its activation."""
    has_usable: bool
    """Whether the table has a version without an error."""
    unknown: Sequence[str]
    """Versions in the folder that have no row."""


class Registry:
    """A connection that listens to the channel, for one thread.

    Every method may raise psycopg.Error. After an error call `disconnect`; the next call connects again.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    def look(self, versions: Sequence[str]) -> View:
        """Read the table; `versions` are those in the folder."""
        (row,) = self._execute(LOOK, list(versions))
        return View(*row)

    def register(self, version: str, card: dict[str, Any]) -> bool | None:
        """Add a version that can be served. Returns whether it is active now; None if its row existed."""
        with self._open().transaction():
            self._execute(TAKE_TURNS)
            rows = self._execute(REGISTER, version, json.dumps(card))
        return rows[0][0] if rows else None

    def register_refused(self, version: str, reason: str) -> bool:
        """Add a version that cannot be served. Returns False if its row existed."""
        return bool(self._execute(REGISTER_REFUSED, version, reason))

    def refuse(self, version: str, reason: str) -> None:
        self._execute(REFUSE, version, reason)

    def activate_latest(self) -> None:
        self._execute(ACTIVATE_LATEST)

    def mark_served(self, version: str) -> None:
        self._execute(MARK_SERVED, version)

    def wait(self, seconds: float) -> None:
        """Wait for a notification, for at most `seconds`."""
        for _ in self._open().notifies(timeout=seconds, stop_after=1):
            pass

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _execute(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = self._open().execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect(self._url, "inference models")
            self._connection.execute(f"LISTEN {CHANNEL}")
        return self._connection
