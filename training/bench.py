"""Run the training command several times with different seeds, and print a table of accuracy and time.

"training" is the time from when the images are on the device until the network is trained. It does not count
validation, checkpoints or the warm-up of a GPU. (Keller Jordan's airbench also counts an evaluation.) "all"
is the wall-clock time of the whole command, from the start of Python to the published artifact. The
artifacts are deleted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from training.recipe import RECIPES

TRAIN = (sys.executable, "-m", "training.train")
COLUMNS = ("training, s", "all, s", "single view", "six views", "as uploads", "calibration error")
SHARES = ("accuracy", "accuracy_six_views", "accuracy_after_upload", "calibration_error")  # in the card


def main(train: Sequence[str] = TRAIN) -> int:
    """Returns 0, or the exit status of the first run that failed."""
    parser = argparse.ArgumentParser(prog="make bench-train", description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES, default="fast")
    parser.add_argument("--runs", type=int, default=5, help="number of runs [5]; their seeds are 0, 1, 2 …")
    given, training_flags = parser.parse_known_args()
    rows: list[list[float]] = []
    for seed in range(given.runs):
        with tempfile.TemporaryDirectory() as models:
            flags = [*training_flags, "--recipe", given.recipe, "--seed", str(seed), "--models", models]
            started = time.monotonic()
            # The run's progress goes to standard error: standard output is the table.
            done = subprocess.run([*train, *flags], stdout=sys.stderr, check=False)
            seconds = time.monotonic() - started
            if done.returncode != 0:
                return done.returncode
            (card_file,) = Path(models).glob("*/card.json")
            card = json.loads(card_file.read_text())
        if not rows:
            run = card["training"]
            print(f"{given.recipe}, {run['epochs']} epochs, {card['data']['name']}, {run['hardware']}\n")
            print_row("seed", COLUMNS)
            print_row("---", ["---"] * len(COLUMNS))
        rows.append([card["training"]["seconds"], seconds, *(100 * card[share] for share in SHARES)])
        print_row(str(seed), [f"{figure:.2f}" for figure in rows[-1]])
    columns = list(zip(*rows, strict=True))
    print_row("mean", [f"{statistics.mean(column):.2f}" for column in columns])
    if len(rows) > 1:
        print_row("deviation", [f"{statistics.stdev(column):.2f}" for column in columns])
    print(f"\nn = {len(rows)}; figures of accuracy and calibration in percent")
    return 0


def print_row(name: str, cells: Sequence[str]) -> None:
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
