"""Models: the backend's SQL for the table `models`.

A card may hold anything, because users can put models of their own into the folder of models. Parts that
cannot be shown become null, so a card never breaks an answer.
"""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, JsonValue, TypeAdapter, ValidationError
from sqlalchemy import Row

from backend.database import Pool
from backend.errors import Refusal, ServiceError
from backend.pictures import find_pictures, read_picture
from backend.schemas.models import Model, ModelDetail
from backend.schemas.trainings import NAME

T = TypeVar("T")

# The active version: the one activated last among those without an error.
ACTIVE = """
SELECT version FROM models WHERE error IS NULL AND activated_at IS NOT NULL
ORDER BY activated_at DESC, version DESC LIMIT 1
"""

COLUMNS = f"""version, version IS NOT DISTINCT FROM ({ACTIVE.strip()}) AS active, error, found_at,
    activated_at, served_at, (card -> 'accuracy')::text AS accuracy,
    (card -> 'calibration_error')::text AS calibration_error, (card -> 'classes')::text AS classes,
    CASE jsonb_typeof(card -> 'training') WHEN 'object' THEN (card -> 'training') - 'curve' END::text
        AS training,
    (card -> 'data')::text AS data"""

# Every version, ordered by `found_at`, latest first.
LIST = f"SELECT {COLUMNS} FROM models ORDER BY found_at DESC, version DESC"

# One version with its whole card.
READ = f"SELECT {COLUMNS}, card::text AS card FROM models WHERE version = :version"

# Activate a version, unless it is the active one: a later `activated_at` than `served_at` would mean that no
# worker serves it yet. The new `activated_at` is later than all others, even if the clock was set back.
ACTIVATE = f"""
UPDATE models SET activated_at = GREATEST(
    clock_timestamp(), (SELECT max(activated_at) FROM models) + interval '1 microsecond')
WHERE version = :version AND error IS NULL AND version IS DISTINCT FROM ({ACTIVE.strip()})
"""

NUMBER = TypeAdapter[float](Annotated[float, Field(strict=True, allow_inf_nan=False)])
TEXTS = TypeAdapter(list[str])
MEMBERS = TypeAdapter(dict[str, JsonValue])
ANYTHING = TypeAdapter[JsonValue](JsonValue)


class Models:
    """Reads and activates versions. Methods raise what Pool.fetch raises."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self._pool = pool
        self._folder = folder

    async def read_all(self) -> list[Model]:
        """Every version, ordered by `found_at`, latest first."""
        rows = await self._pool.fetch(LIST)
        versions = [row.version for row in rows]
        drawn = await asyncio.to_thread(lambda: [find_pictures(self._folder, v) for v in versions])
        return [Model.model_validate(to_members(row, names)) for row, names in zip(rows, drawn, strict=True)]

    async def read(self, version: str) -> ModelDetail:
        """One version with its card. Raises UNKNOWN_MODEL."""
        row = await self._find(version)
        names = await asyncio.to_thread(find_pictures, self._folder, version)
        return ModelDetail.model_validate(
            {**to_members(row, names), "card": parse_or_none(ANYTHING, row.card)}
        )

    async def activate(self, version: str) -> ModelDetail:
        """Activate a version. Raises UNKNOWN_MODEL, MODEL_REFUSED."""
        if (error := (await self._find(version)).error) is not None:
            detail = f"The model cannot be served: {error.rstrip('.')}. Choose another of GET /api/models."
            raise ServiceError(Refusal.MODEL_REFUSED, detail)
        await self._pool.fetch(ACTIVATE, {"version": version})
        return await self.read(version)

    async def read_picture(self, version: str, name: str) -> bytes:
        """A PNG of one version. Raises UNKNOWN_MODEL, UNKNOWN_PICTURE."""
        await self._find(version)
        return await asyncio.to_thread(read_picture, self._folder, version, name)

    async def _find(self, version: str) -> Row[Any]:
        rows = await self._pool.fetch(READ, {"version": version}) if re.fullmatch(NAME, version) else []
        if not rows:
            detail = "No model has this version. GET /api/models lists all models."
            raise ServiceError(Refusal.UNKNOWN_MODEL, detail)
        return rows[0]


def to_members(row: Row[Any], pictures: Sequence[str]) -> dict[str, Any]:
    """A row as the API shows it. The card, if the row has one, stays JSON text."""
    place = f"/api/models/{row.version}"
    return {
        **row._asdict(),
        "accuracy": parse_or_none(NUMBER, row.accuracy),
        "calibration_error": parse_or_none(NUMBER, row.calibration_error),
        "classes": parse_or_none(TEXTS, row.classes),
        "training": parse_or_none(MEMBERS, row.training),
        "data": parse_or_none(MEMBERS, row.data),
        "pictures": [{"name": name, "url": f"{place}/pictures/{name}"} for name in pictures],
        "urls": {"self": place, "card": place, "activate": f"{place}/activate"},
    }


def parse_or_none(kind: TypeAdapter[T], text: str | None) -> T | None:
    """A part of a card, or None if it is missing or of another type."""
    try:
        return kind.validate_json(text) if text is not None else None
    except ValidationError:
        return None
