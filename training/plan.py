"""One run's plan: what to train, and on which images."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from training.data import Split
from training.recipe import Recipe

# The modules that decide most about the trained weights. Their bytes are part of `identity`.
CODE = [
    Path(__file__).with_name(f"{module}.py")
    for module in ("recipe", "batches", "outliers", "model", "optimizers", "loop")
]


@dataclass(frozen=True)
class TrainingPlan:
    """What to train, and on which images."""

    recipe: Recipe
    epochs: int
    seed: int
    train: Split
    validation: Split
    data: str  # the data set's fingerprint
    classes: int
    teacher: nn.Module | None = None  # maps normalised images to logits; their softmax replaces the labels

    @property
    def identity(self) -> str:
        """The name of this plan and its code. A run resumes only from a checkpoint with the same identity."""
        options = f"{self.recipe} {self.epochs} {self.seed} {self.data} {len(self.train)}"
        digest = hashlib.sha256(options.encode())
        for file in CODE:
            digest.update(file.read_bytes())
        for weights in self.teacher.state_dict().values() if self.teacher else ():
            digest.update(weights.cpu().numpy().tobytes())
        return f"{self.recipe.name}-{digest.hexdigest()[:12]}"
