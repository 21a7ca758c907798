"""Install PyTorch where it is missing, then train: `python -m training.install INSTALLER OPTIONS...`.

Serving needs no PyTorch, so a machine has it only once somebody trains. The installer is a program that takes
the argument `torch`; it may be killed at any moment and run again. Its progress is told as the run's phase.
"""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

from training.errors import InstallError

NEEDED = (
    "chardet",
    "matplotlib",
    "onnx",
    "onnxscript",
    "pi-heif",
    "safetensors",
    "torch",
    "torchvision",
    "tqdm",
)
# As uv tells them, for packages of a megabyte and more.
STARTED = re.compile(r"Downloading (\S+) \(([\d.]+)(KiB|MiB|GiB)\)")
DONE = re.compile(r"Downloaded (\S+)")
MEGABYTES = {"KiB": 2**10 / 1e6, "MiB": 2**20 / 1e6, "GiB": 2**30 / 1e6}


def main() -> int:
    installer, *options = sys.argv[1:]
    if is_missing():
        try:
            install(installer)
        except InstallError as error:
            print(f"train: {error}", file=sys.stderr)
            return error.status
    return os.execv(sys.executable, [sys.executable, "-m", "training.train", *options])  # noqa: S606


def is_missing() -> bool:
    try:
        for name in NEEDED:
            version(name)
    except PackageNotFoundError:
        return True
    return False


def install(installer: str) -> None:
    """Run the installer to its end. Raises InstallError."""
    tell("installing PyTorch")
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
                tell(f"installing PyTorch: {arrived:,.0f} of {sum(sizes.values()):,.0f} MB")
    if process.returncode != 0:
        reason = last or "the installer said nothing"
        advice = "Check the network and the disk's free space, then start the training again."
        raise InstallError(f"PyTorch could not be installed: {reason}. {advice}")


def tell(phase: str) -> None:
    print(json.dumps({"phase": phase}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
