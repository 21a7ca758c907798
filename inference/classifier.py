"""A loaded version, which gives probabilities and energies for images."""

import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inference import artifact
from inference.artifact import Artifact, Check
from inference.card import INPUT_SIZE
from inference.engine import CPU, CUDA, Engine, Precision, has_cuda, list_batch_sizes, name_cpu, name_gpu
from inference.errors import ArtifactError
from inference.trial import try_model

logger = logging.getLogger(__name__)


class Classifier:
    """One version on one device. Not thread-safe: one batch at a time."""

    def __init__(self, found: Artifact, engine: Engine, device_name: str, fallback: str = "") -> None:
        self.version = found.card.version
        self.classes = found.card.classes
        self.sha256 = found.card.files.float32.sha256
        self.device_name = device_name
        self.fallback = fallback
        """Why the model runs in a slower way than intended. Empty: it runs as intended."""
        self._unfamiliar = found.card.unfamiliar
        self._engine = engine

    def __call__(self, images: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Classify RGB images of 32 x 32 x 3 bytes each.

        Returns probabilities (len(images), classes) and energies (len(images),), in the order given.
        An energy is minus the log-sum-exp of the calibrated logits. A high energy means an unfamiliar image.
        """
        batch = np.frombuffer(b"".join(images), np.uint8)
        return self._engine(batch.reshape(len(images), INPUT_SIZE, INPUT_SIZE, 3))

    def is_unfamiliar(self, energy: float) -> bool | None:
        """Whether an image of this energy is probably none of the classes; None without a threshold."""
        return None if self._unfamiliar is None else energy > self._unfamiliar.energy_threshold

    def warm_up(self, max_batch_size: int) -> None:
        """Run batches of a few sizes, because the first pass of a size is slow."""
        for size in list_batch_sizes(max_batch_size):
            self([bytes(INPUT_SIZE**2 * 3)] * size)


class Loader:
    """Loads versions onto a GPU if ONNX Runtime supports CUDA and the GPU works, otherwise onto the CPU."""

    def __init__(self, cpu_threads: int, max_batch_size: int) -> None:
        self.cpu_threads = cpu_threads
        self.max_batch_size = max_batch_size
        self._tried: dict[bytes, str | None] = {}
        """The result of each trial, by a digest of model and check: why it failed, or None."""
        if has_cuda():
            onnxruntime.preload_dlls()

    def verify(self, folder: Path) -> Artifact:
        """Read one version and try its float32 model in another process. Raises ArtifactError."""
        found = artifact.read(folder)
        self._try("float32", found.float32, found.check)
        return found

    def load(self, folder: Path) -> Classifier:
        """Verify one version, load it and warm it up. Raises ArtifactError."""
        found = self.verify(folder)
        classifier = self._on_gpu(found) if has_cuda() else self._on_cpu(found)
        classifier.warm_up(self.max_batch_size)
        return classifier

    def _on_gpu(self, found: Artifact) -> Classifier:
        try:
            engine = Engine(found.float32, self.cpu_threads, CUDA)
            if engine.provider != CUDA:
                raise ArtifactError("ONNX Runtime cannot use CUDA here; the worker's log says why")
            engine.check(found.check, "float32")
            classifier = Classifier(found, engine, f"{name_gpu()} (CUDA, float32)")
            classifier.warm_up(self.max_batch_size)  # raises here if a full batch exceeds the GPU's memory
            return classifier
        except Exception as error:  # ONNX Runtime's errors have no common class
            logger.error("the GPU cannot serve %s, the CPU serves it instead: %s", found.card.version, error)
            return self._on_cpu(found, f"CUDA failed: {error!s:.500}")

    def _on_cpu(self, found: Artifact, fallback: str = "") -> Classifier:
        """The int8 model, or the float32 model if there is no int8 model or it fails on this CPU."""
        try:
            if isinstance(found.int8, ArtifactError):
                raise ArtifactError(*found.int8.args)  # raising the stored error would make a reference cycle
            if found.int8 is not None:
                self._try("int8", found.int8, found.check)
                engine = Engine(found.int8, self.cpu_threads, CPU)
                return Classifier(found, engine, name_cpu("int8"), fallback)
        except ArtifactError as error:
            version = found.card.version
            logger.warning("int8 of %s cannot be served, float32 is served instead: %s", version, error)
            fallback = fallback or f"int8 failed: {error}"
        return Classifier(found, Engine(found.float32, self.cpu_threads, CPU), name_cpu("float32"), fallback)

    def _try(self, precision: Precision, content: bytes, check: Check) -> None:
        """Try a model unless this worker did so before. Raises ArtifactError."""
        digest = sha256(content)
        for array in vars(check).values():
            digest.update(array.tobytes())
        key = digest.digest()
        if key not in self._tried:
            try:
                try_model(content, precision, check, self.max_batch_size)
                self._tried[key] = None
            except ArtifactError as error:
                self._tried[key] = str(error)
        if reason := self._tried[key]:
            raise ArtifactError(f"the {precision} model cannot be served: {reason}")
