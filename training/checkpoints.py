"""The state of a run after each epoch, in a file from which only the same run can resume."""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from training.errors import OtherRun

logger = logging.getLogger(__name__)


def save(checkpoint: Path, identity: str, state: dict[str, Any]) -> None:
    """Write a checkpoint of the run `identity` in one rename. A crash leaves the old file or the new one."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = checkpoint.with_name(f"{checkpoint.name}.partial")
    with partial.open("wb") as file:
        torch.save(state | {"of": identity}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(checkpoint)


def load(checkpoint: Path, identity: str) -> dict[str, Any] | None:
    """The saved state, in the CPU's memory; None if there is no readable checkpoint. Raises OtherRun."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        of = state["of"]
    except FileNotFoundError:
        return None
    except (EOFError, RuntimeError, TypeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        logger.warning("%s cannot be read, so the run starts from the beginning: %r", checkpoint, error)
        return None
    if of != identity:
        raise OtherRun(
            f"{checkpoint} was written with other options, other data or other training code ({of}). "
            "Remove the file, or start another training."
        )
    return state
