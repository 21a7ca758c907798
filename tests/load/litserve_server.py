"""LitServe serves a version's model: `python -m tests.load.litserve_server PORT CPU_THREADS MODEL`.

It stores nothing, and sends the answer only to the client. It ends with all its processes when its standard
input closes, so it cannot outlive the benchmark.
"""

# `make check` runs where LitServe is not installed. LitServe's own methods accept more arguments.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportIncompatibleMethodOverride=false

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import litserve
from fastapi import Request

from images.decode import decode
from inference.classifier import Loader

MAX_BATCH_SIZE = 64
BATCH_TIMEOUT_SECONDS = 0.005
MAX_IMAGE_PIXELS = 65_000_000


class ClassifierAPI(litserve.LitAPI):
    """The service's own decoder and classifier, with LitServe's batches around them."""

    def __init__(self, model: Path, cpu_threads: int) -> None:
        super().__init__(
            max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_SECONDS, api_path="/api/predict"
        )
        self._model = model
        self._cpu_threads = cpu_threads

    def setup(self, device: str) -> None:  # noqa: ARG002
        self._classifier = Loader(self._cpu_threads, MAX_BATCH_SIZE).load(self._model)

    def decode_request(self, request: Request) -> bytes:
        """LitServe passes the form, not the request, to a parameter of the type `Request`."""
        return decode(request["file"].file.read(), MAX_IMAGE_PIXELS)

    def batch(self, inputs: Sequence[bytes]) -> Sequence[bytes]:
        return inputs

    def predict(self, inputs: Sequence[bytes]) -> list[dict[str, Any]]:
        probabilities, _ = self._classifier(inputs)
        return [{"probabilities": row, "batch_size": len(inputs)} for row in probabilities]

    def unbatch(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return outputs

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """The label, its confidence, all probabilities (the highest first) and the size of the batch."""
        pairs = zip(self._classifier.classes, output["probabilities"].tolist(), strict=True)
        ranked = sorted(pairs, key=lambda pair: pair[1], reverse=True)
        label, confidence = ranked[0]
        return {
            "label": label,
            "confidence": confidence,
            "probabilities": [{"label": name, "probability": value} for name, value in ranked],
            "batch_size": output["batch_size"],
        }


def end_with_standard_input() -> None:
    """Wait for the end of standard input, then end this process group."""
    while os.read(sys.stdin.fileno(), 1):  # unlike sys.stdin, holds no lock when LitServe forks
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    port, cpu_threads, model = sys.argv[1:]
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    server = litserve.LitServer(
        ClassifierAPI(Path(model), int(cpu_threads)),
        accelerator="cpu",
        workers_per_device=1,
        fast_queue=False,  # LitServe's default; True (ZeroMQ) was not cheaper (docs/performance.md)
        timeout=60,
    )
    server.run(
        host="127.0.0.1", port=int(port), log_level="warning", access_log=False, generate_client_file=False
    )


if __name__ == "__main__":
    main()
