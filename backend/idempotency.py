"""Uploads with an `Idempotency-Key`: a repeated request finds the rows of the first one.

Each row holds the digest of the key, the number of accepted images, and its place among them
(docs/decisions/0017).
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from backend.database import Pool
from backend.errors import Refusal, ServiceError
from backend.prediction_rows import COLUMNS, NewPrediction, as_columns, to_prediction
from backend.schemas.predictions import Prediction

# Store the rows of one request, each under its own `upload_key`. Rows that exist already are kept.
INSERT_ONCE = """
INSERT INTO predictions (id, filename, "timestamp", pixels, bulk, upload_key)
SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:filenames AS text[]), CAST(:timestamps AS timestamptz[]),
                     CAST(:pixels AS bytea[]), CAST(:bulk AS boolean[]), CAST(:keys AS bytea[]))
ON CONFLICT (upload_key) WHERE upload_key IS NOT NULL DO NOTHING
"""

# All rows under one idempotency key, with their pixels.
READ_KEYED = f"""
SELECT {COLUMNS}, upload_key, pixels FROM predictions
WHERE upload_key >= CAST(:first AS bytea) AND upload_key <= CAST(:last AS bytea)
"""

# Remove the rows that this request has stored.
TAKE_BACK = "DELETE FROM predictions WHERE id = ANY(CAST(:ids AS uuid[]))"


async def insert_once(
    pool: Pool, rows: Sequence[NewPrediction], client_key: str
) -> list[tuple[Prediction, bool]]:
    """Store the rows of one request, unless they are already stored under this key.

    Returns for each row the stored prediction, and whether this request stored it. If the key belongs to
    other images, removes the new rows again and raises KEY_REUSED.
    """
    digest = hashlib.sha256(client_key.encode()).digest()[:28]
    keys = [digest + len(rows).to_bytes(2) + place.to_bytes(2) for place in range(len(rows))]
    own = dict(zip(keys, rows, strict=True))
    under_the_key = {"first": digest + bytes(4), "last": digest + b"\xff" * 4}
    while True:
        await pool.fetch(INSERT_ONCE, as_columns(rows) | {"keys": keys})
        stored: dict[bytes, Row[Any]] = {
            row.upload_key: row for row in await pool.fetch(READ_KEYED, under_the_key)
        }
        if any(key not in own or row.pixels != own[key].pixels for key, row in stored.items()):
            await pool.fetch(TAKE_BACK, {"ids": [row.id for row in rows]})
            detail = "This Idempotency-Key was used with other images. Send a new one."
            raise ServiceError(Refusal.KEY_REUSED, detail)
        if stored.keys() == own.keys():  # otherwise a row was removed meanwhile: try again
            return [(to_prediction(stored[key]), stored[key].id == own[key].id) for key in keys]
