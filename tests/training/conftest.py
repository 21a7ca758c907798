"""Small data and small networks, so that a run takes seconds."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.small import SMALL
from tests.two_colours import write_two_colours
from training import pictures
from training.recipe import RECIPES

# On a busy machine several threads slow a small network down, because they wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def two_colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder tree of two classes, each with 100 training images and 20 test images."""
    root = tmp_path_factory.mktemp("two colours")
    write_two_colours(root, train=100, test=20)
    return root


@pytest.fixture(scope="module")
def small_networks() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, recipe in SMALL.items():
            patch.setitem(RECIPES, name, recipe)
        yield


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no pictures, which take half of the time of a small run. test_pictures.py tests them."""
    monkeypatch.setattr(pictures, "draw", lambda *_: {})


def read_card(artifact: Path) -> dict[str, Any]:
    return json.loads((artifact / "card.json").read_text())
