"""Test images in one compressed file, for a machine without the data set.

`python -m tests.gpu.image_file DATA OUT.npz` writes the test images of a data set. DATA is a folder or an
archive, as in `make train DATA=…`. 10,000 images take about 25 MB.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training import data


def read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (count, 32, 32, 3) and their labels (count,)."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.image_file")
    parser.add_argument("data", type=Path, help="a folder, .tar or .zip with train/ and test/")
    parser.add_argument("out", type=Path, help="the .npz file")
    given = parser.parse_args()
    test = data.load(given.data, Path(".local/data")).test
    np.savez_compressed(given.out, images=test.images, labels=test.labels)
    print(f"{len(test):,} images, {given.out.stat().st_size / 1e6:.1f} MB: {given.out}")


if __name__ == "__main__":
    main()
