"""A data set that a network learns in seconds: two noisy classes of different colours."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_two_colours(root: Path, train: int, test: int) -> None:
    """Write `train` training images and `test` test images of each class."""
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for channel, name in enumerate(("reddish", "greenish")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 200, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] |= 128
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
