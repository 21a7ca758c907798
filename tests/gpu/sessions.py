"""Sessions of ONNX Runtime that differ from the worker's: other options, float16, CUDA graphs."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16

from inference.engine import CPU, CUDA, has_cuda

Images = NDArray[np.uint8]
Answers = tuple[NDArray[np.float32], NDArray[np.float32]]


class Session:
    """A model on the GPU, or on the CPU if this build of ONNX Runtime has no CUDA. Raises if CUDA fails."""

    def __init__(self, content: bytes, **cuda_options: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.provider = CUDA if has_cuda() else CPU
        providers = [(CUDA, cuda_options)] if has_cuda() else [CPU]
        self.session = onnxruntime.InferenceSession(content, options, providers=providers)
        if self.session.get_providers()[0] != self.provider:
            raise RuntimeError("ONNX Runtime cannot use CUDA here")

    def __call__(self, images: Images) -> Answers:
        """Probabilities (batch, classes) and energies (batch,)."""
        answers: Any = self.session.run(["probabilities", "energy"], {"images": images})
        return answers[0], answers[1]


class FixedBatchSession:
    """A session for one batch size, with its input and outputs at fixed addresses in the device's memory.

    CUDA graphs need fixed addresses. If `session` has the option `enable_cuda_graph`, each forward pass
    after the first few is one launch of a graph.
    """

    def __init__(self, session: Session, images: Images, classes: int) -> None:
        device = "cuda" if session.provider == CUDA else "cpu"
        count = len(images)
        self._session = session.session
        self._binding = self._session.io_binding()
        self._images = onnxruntime.OrtValue.ortvalue_from_numpy(images, device, 0)
        self._binding.bind_ortvalue_input("images", self._images)
        self._outputs: list[Any] = []
        for name, shape in (("probabilities", [count, classes]), ("energy", [count])):
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device, 0)
            self._binding.bind_ortvalue_output(name, value)
            self._outputs.append(value)

    def __call__(self, images: Images) -> Answers:
        self._images.update_inplace(images)
        self._session.run_with_iobinding(self._binding)
        probabilities, energies = (value.numpy() for value in self._outputs)
        return probabilities, energies


def to_float16(content: bytes) -> bytes:
    """The model with float16 weights and arithmetic; its outputs stay float32."""
    converted = convert_float_to_float16(onnx.load_model_from_string(content), keep_io_types=True)
    return converted.SerializeToString()
