"""A fake classifier that sleeps BATCH_SECONDS (environment) for each batch, and fails for some images."""

import os
import signal
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RAISES, KILLS = b"\1" * 3072, b"\2" * 3072
"""Pixels for which it raises, and pixels for which it kills the process as a GPU's driver may do."""


class FakeClassifier:
    """Replaces `inference.classifier.Classifier`. Gives every image the label `cat`."""

    version, device_name, fallback = "fake", "fake", ""
    classes = ("cat", "dog")

    def __call__(self, images: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        time.sleep(float(os.environ["BATCH_SECONDS"]))
        if KILLS in images:
            os.kill(os.getpid(), signal.SIGKILL)
        if RAISES in images:
            raise RuntimeError("the device cannot run this image")
        answers = np.array([[0.75, 0.25]] * len(images), np.float32)
        return answers, np.zeros(len(images), np.float32)

    def warm_up(self, _max_batch_size: int) -> None:
        pass

    def is_unfamiliar(self, _energy: float) -> bool:
        return False
