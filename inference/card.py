"""`card.json`: the fields that the worker needs."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from inference.errors import ArtifactError

INPUT_SIZE = 32  # pixels a side, as in the table `predictions`
MAX_CLASSES, MAX_CLASS_CHARACTERS = 1000, 100
JOINERS = "[\u200c\u200d]"  # some writing systems need them; Python counts them as unprintable

Share = Annotated[float, Field(ge=0, le=1)]


def _check_names(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("two of them are the same")
    for name in names:
        seen = re.sub(JOINERS, "", name)
        if not seen.strip() or not seen.isprintable() or len(name) > MAX_CLASS_CHARACTERS:
            raise ValueError(f"{name[:MAX_CLASS_CHARACTERS]!r} cannot be stored and shown as a name")
    return names


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class File(_Part):
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Files(_Part):
    """The model files: float32, and int8 if it was published."""

    float32: Annotated[File, Field(alias="model.onnx")]
    int8: Annotated[File | None, Field(alias="model.int8.onnx")] = None


class Unfamiliar(_Part):
    energy_threshold: float


class Data(_Part):
    test_sha256: str | None = None


class Card(_Part):
    """The fields that the worker uses. `artifact.read_card` returns all fields, too, for the database."""

    version: str
    format: Literal["onnx/1"]
    classes: Annotated[list[str], Field(min_length=1, max_length=MAX_CLASSES), AfterValidator(_check_names)]
    input_size: Literal[32]
    files: Files
    activation: Literal["better", "always", "never"] = "better"
    accuracy: Share | None = None
    unfamiliar: Unfamiliar | None = None
    data: Data = Data()


def parse(fields: Mapping[str, Any], version: str) -> Card:
    """Check a card whose folder has the name `version`. Raises ArtifactError."""
    try:
        card = Card.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise ArtifactError(f"{place:.100} of the card is wrong: {reason:.300}") from error
    if card.version != version:
        raise ArtifactError(f"version of the card is {card.version[:100]!r}; it must be the folder's name")
    return card
