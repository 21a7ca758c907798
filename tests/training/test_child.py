"""The child process, seen by its worker."""

import sys
from uuid import uuid4

import pytest

from training.child import Child
from training.errors import TrainingFailed


def test_a_child_that_dies_before_it_may_publish_is_explained_by_its_own_end() -> None:
    dies = "import sys; sys.exit('train: no memory')"
    with Child([sys.executable, "-c", dies], uuid4()) as child:
        child.wait(20)
        child.allow()
        with pytest.raises(TrainingFailed, match="no memory"):
            child.read(0.1)
