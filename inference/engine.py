"""ONNX Runtime: one model on one device."""

import ctypes
import platform
import re
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inference.artifact import CHECK_FILE, Check
from inference.errors import ArtifactError

Precision = Literal["float32", "int8"]
Answers = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Probabilities (batch, classes) and energies (batch,)."""
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# The largest allowed differences from CHECK_FILE. float32: of any probability (for energies see `are_close`).
# int8: an image's differences are added and halved, and the mean over the images counts. CPUs that compute
# int8 wrongly exceed it.
MAX_DIFFERENCE, MAX_INT8_DIFFERENCE = 0.02, 0.1
MAX_SUM_ERROR = 1e-3  # how far the sum of an image's probabilities may be from 1
# ONNX Runtime's error texts contain source files, line numbers and C++ signatures. `_quote` removes them.
CPP_PLACE = re.compile(r"\S+\.(cc|h):\d+ ([^()]*::[^()]*\([^()]*\) )?")


class Engine:
    """A loaded model. Not thread-safe: one batch at a time."""

    def __init__(self, content: bytes, threads: int, provider: str = CPU) -> None:
        """Raises ArtifactError if ONNX Runtime cannot load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors only; warnings list optimisations
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=[provider])
        except Exception as error:  # ONNX Runtime's exceptions have no common class
            raise ArtifactError(f"ONNX Runtime cannot load it: {_quote(error)}") from error
        self.provider: str = self._session.get_providers()[0]

    def __call__(self, images: NDArray[np.uint8]) -> Answers:
        """The answers for images (batch, 32, 32, 3)."""
        answers: Any = self._session.run(["probabilities", "energy"], {"images": images})
        probabilities, energies = answers
        return probabilities, energies

    def check(self, check: Check, precision: Precision) -> Answers:
        """The answers to the reference images. Raises ArtifactError if they differ too much from `check`."""
        probabilities, energies = self.answer(check.images, check.probabilities.shape[1])
        differences = np.abs(probabilities - check.probabilities)  # (count, classes)
        worst, mean = float(differences.max()), float(differences.sum(1).mean() / 2)
        if precision == "int8" and mean > MAX_INT8_DIFFERENCE:
            raise ArtifactError(f"its answers differ by {mean:.2f} on average from those of {CHECK_FILE}")
        if precision == "float32" and worst > MAX_DIFFERENCE:
            raise ArtifactError(f"its answers differ by up to {worst:.2f} from those of {CHECK_FILE}")
        if precision == "float32" and not are_close(energies, check.energy):
            raise ArtifactError(f"its energies differ from those of {CHECK_FILE}")
        return probabilities, energies

    def answer(self, images: NDArray[np.uint8], classes: int) -> Answers:
        """Run a batch and check the form of its answers. Raises ArtifactError."""
        count = len(images)
        try:
            probabilities, energies = self(images)
        except Exception as error:
            raise ArtifactError(f"it does not run for a batch of {count}: {_quote(error)}") from error
        shapes = (probabilities.shape, energies.shape)
        if shapes != ((count, classes), (count,)):
            raise ArtifactError(f"its answers for a batch of {count} have the shapes {shapes}")
        if not (np.isfinite(probabilities).all() and np.isfinite(energies).all()):
            raise ArtifactError(f"its answers for a batch of {count} are not finite numbers")
        if not are_answers(probabilities, energies).all():
            raise ArtifactError(f"its probabilities for a batch of {count} are below 0 or do not add up to 1")
        return probabilities, energies


def are_answers(probabilities: NDArray[np.float32], energies: NDArray[np.float32]) -> NDArray[np.bool_]:
    """For each image, whether its energy is finite and its probabilities are at least 0 and add up to 1."""
    with np.errstate(invalid="ignore"):  # no warning for infinity minus infinity
        off = np.abs(probabilities.sum(1) - 1)
    return np.isfinite(energies) & (off <= MAX_SUM_ERROR) & (probabilities >= 0).all(1)


def are_close(values: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Whether each value differs from its counterpart by at most 0.02 plus 2%."""
    return np.allclose(values, others, rtol=MAX_DIFFERENCE, atol=MAX_DIFFERENCE)


def list_batch_sizes(max_batch_size: int) -> list[int]:
    """The sizes of the batches in a trial and a warm-up."""
    return sorted({min(size, max_batch_size) for size in (1, 2, 8, max_batch_size)})


def _quote(error: Exception) -> str:
    return CPP_PLACE.sub("", str(error)[:2000])[:300]


def has_cuda() -> bool:
    """Whether this build of ONNX Runtime supports CUDA. CUDA may still fail on this machine."""
    return CUDA in onnxruntime.get_available_providers()


def name_gpu() -> str:
    """The name of the GPU that CUDA uses, from its driver."""
    name = ctypes.create_string_buffer(128)
    device = ctypes.c_int()
    driver = ctypes.CDLL("libcuda.so.1")
    failed = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0)
    failed = failed or driver.cuDeviceGetName(name, len(name), device)
    return "NVIDIA GPU" if failed else name.value.decode(errors="replace")


def name_cpu(precision: Precision) -> str:
    return f"CPU ({platform.machine()}, {precision})"
