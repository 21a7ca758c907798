"""The state of a run after each epoch, as a file that brings on that run and no other."""

import pickle
from pathlib import Path
from typing import Any

import torch


class OtherRun(Exception):
    """A checkpoint cannot bring on the run: it belongs to another one, or cannot be read."""


def save(checkpoint: Path, identity: str, state: dict[str, Any]) -> None:
    """Write a checkpoint that says what it is of, in one rename."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = checkpoint.with_name(f"{checkpoint.name}.partial")
    torch.save(state | {"of": identity}, partial)
    partial.replace(checkpoint)


def load(checkpoint: Path, identity: str, device: torch.device) -> dict[str, Any]:
    """Raises OtherRun."""
    try:
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        of = state["of"]
    except (
        OSError, EOFError, RuntimeError, TypeError, ValueError, KeyError, pickle.UnpicklingError
    ) as error:  # fmt: skip
        raise OtherRun(f"{checkpoint} cannot be read ({error}); remove it to start anew") from error
    if of != identity:
        raise OtherRun(f"{checkpoint} is of another run ({of}); remove it to start anew")
    return state
