"""Install PyTorch if it is missing, then train: `python -m training.install INSTALLER OPTIONS...`.

Local mode uses this module: serving needs no PyTorch, so the first training installs it. INSTALLER is a
program that takes the argument `torch`. It may be killed at any time and run again. Its progress becomes the
run's phase.
"""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from typing import Any

from training.errors import InstallError

NEEDED = (
    "chardet", "matplotlib", "onnx", "onnxscript", "pi-heif", "safetensors", "torch", "torchvision", "tqdm",
)  # fmt: skip
# uv writes these lines for packages of a megabyte and more.
STARTED = re.compile(r"Downloading (\S+) \(([\d.]+)(KiB|MiB|GiB)\)")
DONE = re.compile(r"Downloaded (\S+)")
MEGABYTES = {"KiB": 2**10 / 1e6, "MiB": 2**20 / 1e6, "GiB": 2**30 / 1e6}


def main() -> int:
    installer, *options = sys.argv[1:]
    if is_missing():
        try:
            install(installer)
        except InstallError as error:
            report(error={"title": error.title, "detail": str(error)})
            return 1
    return os.execv(sys.executable, [sys.executable, "-m", "training.train", *options])  # noqa: S606


def is_missing() -> bool:
    """Whether a needed package is missing, or the installer was killed while it wrote a package.

    uv writes a package's file `INSTALLER` near the end. `scripts/bootstrap` repairs packages without it.
    """
    is_incomplete = any(found.read_text("INSTALLER") is None for found in distributions())
    return is_incomplete or not all(any(distributions(name=name)) for name in NEEDED)


def install(installer: str) -> None:
    """Run the installer to its end. Raises InstallError."""
    report(phase="installing PyTorch")
    sizes: dict[str, float] = {}
    arrived, last = 0.0, ""
    with subprocess.Popen(
        [installer, "torch"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            if found := STARTED.search(line):
                sizes[found[1]] = float(found[2]) * MEGABYTES[found[3]]
            elif found := DONE.search(line):
                arrived += sizes.get(found[1], 0.0)
                report(phase=f"installing PyTorch: {arrived:,.0f} of {sum(sizes.values()):,.0f} MB")
    if process.returncode != 0:
        reason = last or "the installer wrote nothing"
        advice = "Check the network and the free disk space, then start the training again."
        raise InstallError(f"PyTorch could not be installed: {reason}. {advice}")


def report(**message: Any) -> None:
    """Write one JSON line. `training.report` does the same, but needs packages that may be missing here."""
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    sys.exit(main())
