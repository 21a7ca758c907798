"""Small data that a network can learn in seconds."""

from pathlib import Path

import pytest
import torch

from tests.two_colours import write_two_colours

# On a busy machine several threads slow a small network down, because they wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def two_colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder tree of two classes: 100 and 20 images each."""
    root = tmp_path_factory.mktemp("two colours")
    write_two_colours(root, train=100, test=20)
    return root
