"""How the worker explains the end of its child process."""

import sys
from uuid import uuid4

import pytest

from training.worker.child import Child
from training.worker.run import TrainingFailed


def test_a_child_that_ends_before_it_may_publish_is_explained_by_its_last_line() -> None:
    dies = "import sys; sys.exit('train: no memory')"
    with Child([sys.executable, "-c", dies], uuid4()) as child:
        child.wait(20)
        child.allow()
        with pytest.raises(TrainingFailed, match="no memory"):
            child.read(0.1)
