"""ONNX Runtime: one model on one device."""

import ctypes
import platform
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inference.artifact import CHECK_FILE, Check
from inference.errors import ArtifactError

Precision = Literal["float32", "int8"]
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# MAX_DIFFERENCE is for each probability: TF32 and fused kernels stay below it. MAX_INT8_DIFFERENCE is for the
# mean, over the images, of half the sum of the differences: a CPU that computes int8 wrongly exceeds it.
MAX_DIFFERENCE, MAX_INT8_DIFFERENCE = 0.02, 0.1


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
        except Exception as error:  # its exceptions have no common class
            raise ArtifactError(f"ONNX Runtime cannot load it: {error!s:.300}") from error
        self.provider: str = self._session.get_providers()[0]

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities (batch, classes) and energies (batch,) of images (batch, 32, 32, 3)."""
        answers: Any = self._session.run(["probabilities", "energy"], {"images": images})
        probabilities, energies = answers
        return probabilities, energies

    def check(self, check: Check, precision: Precision) -> None:
        """Compare the answers for the reference images with those of the artifact. Raises ArtifactError."""
        try:
            probabilities, energies = self(check.images)
        except Exception as error:
            raise ArtifactError(f"it does not run: {error!s:.300}") from error
        check_answers(probabilities, energies)
        differences = np.abs(probabilities - check.probabilities)  # (count, classes)
        worst, mean = float(differences.max()), float(differences.sum(1).mean() / 2)
        if precision == "int8" and mean > MAX_INT8_DIFFERENCE:
            raise ArtifactError(f"its answers differ by {mean:.2f} on average from those of {CHECK_FILE}")
        if precision == "float32" and worst > MAX_DIFFERENCE:
            raise ArtifactError(f"its answers differ by up to {worst:.2f} from those of {CHECK_FILE}")


def check_answers(probabilities: NDArray[np.float32], energies: NDArray[np.float32]) -> None:
    """Raises ArtifactError if the answers are not probabilities and finite energies."""
    if not (np.isfinite(probabilities).all() and np.isfinite(energies).all()):
        raise ArtifactError("its answers are not finite numbers")
    if (probabilities < 0).any() or (np.abs(probabilities.sum(1) - 1) > 1e-3).any():
        raise ArtifactError("its probabilities do not add up to one")


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
