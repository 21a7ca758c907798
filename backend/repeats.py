"""Uploads that may be sent again: with an `Idempotency-Key` a second one finds the rows of the first.

Each row holds the key's digest, how many images were accepted with it, and its place among them
(docs/decisions/0017).
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from backend.database import Database
from backend.errors import KeyReused
from backend.predictions import COLUMNS, NewPrediction, as_columns, to_prediction
from backend.schemas.predictions import Prediction

# Store the rows of one request under their keys; one that is there already, since it was sent before, stays.
INSERT_ONCE = """
INSERT INTO predictions (id, filename, "timestamp", pixels, bulk, upload_key)
SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:filenames AS text[]), CAST(:timestamps AS timestamptz[]),
                     CAST(:pixels AS bytea[]), CAST(:bulk AS boolean[]), CAST(:keys AS bytea[]))
ON CONFLICT (upload_key) WHERE upload_key IS NOT NULL DO NOTHING
"""

# All rows under one client's key, and what the model sees of each.
READ_KEYED = f"""
SELECT {COLUMNS}, upload_key, pixels FROM predictions
WHERE upload_key >= CAST(:first AS bytea) AND upload_key <= CAST(:last AS bytea)
"""

# Take back what a request has stored.
TAKE_BACK = "DELETE FROM predictions WHERE id = ANY(CAST(:ids AS uuid[]))"

STATEMENTS = {"INSERT_ONCE": INSERT_ONCE, "READ_KEYED": READ_KEYED, "TAKE_BACK": TAKE_BACK}


async def insert_once(
    database: Database, rows: Sequence[NewPrediction], client_key: str
) -> list[tuple[Prediction, bool]]:
    """Store the rows of one request, unless it was stored before under the same key.

    Returns each prediction as it is now, and whether it is new. Raises KeyReused when the key came with other
    images; nothing is stored then.
    """
    digest = hashlib.sha256(client_key.encode()).digest()[:28]
    keys = [digest + len(rows).to_bytes(2) + place.to_bytes(2) for place in range(len(rows))]
    own = dict(zip(keys, rows, strict=True))
    under_the_key = {"first": digest + bytes(4), "last": digest + b"\xff" * 4}
    while True:
        await database.fetch(INSERT_ONCE, as_columns(rows) | {"keys": keys})
        stored: dict[bytes, Row[Any]] = {
            row.upload_key: row for row in await database.fetch(READ_KEYED, under_the_key)
        }
        if any(key not in own or row.pixels != own[key].pixels for key, row in stored.items()):
            await database.fetch(TAKE_BACK, {"ids": [row.id for row in rows]})
            raise KeyReused("This Idempotency-Key was sent before, with other images; send a new one.")
        if stored.keys() == own.keys():  # else one was removed just now
            return [(to_prediction(stored[key]), stored[key].id == own[key].id) for key in keys]
