"""The state of a run after each epoch, as a file that brings on that run and no other."""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from training.errors import OtherRun

logger = logging.getLogger(__name__)


def save(checkpoint: Path, identity: str, state: dict[str, Any]) -> None:
    """Write a checkpoint that says what it is of, in one rename; it is on the disk when this returns."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = checkpoint.with_name(f"{checkpoint.name}.partial")
    with partial.open("wb") as file:
        torch.save(state | {"of": identity}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(checkpoint)


def load(checkpoint: Path, identity: str) -> dict[str, Any] | None:
    """The state to go on from, on the CPU; None where there is none, or none that can be read. Raises
    OtherRun."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        of = state["of"]
    except FileNotFoundError:
        return None
    except (EOFError, RuntimeError, TypeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        logger.warning("%s cannot be read, so the run starts anew: %r", checkpoint, error)
        return None
    if of != identity:
        raise OtherRun(
            f"{checkpoint} is of another run ({of}), or the recipe was changed; remove it to start anew"
        )
    return state
