"""Measures a trained model: accuracy, calibration, robustness and cost."""

import io
import time
import timeit
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from images.decode import decode
from training.data import Images, Labels, Split
from training.hardware import forward
from training.model import INPUT_SIZE

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
Floats = NDArray[np.float32]
BATCH_SIZE = 500  # images
BINS = 15  # of confidence
UPLOAD_SIDE, UPLOAD_QUALITY = 480, 60  # pixels; quality of the JPEG
COST_ROUNDS, COST_IMAGES = 3, 32  # the fastest round is used; 32 images a round, or one batch of 64
FAMILIAR_SHARE = 0.98  # the share of the held-out images whose energy is at most the threshold


class Engine:
    """An ONNX file on ONNX Runtime, the library that inference workers use."""

    def __init__(self, path: Path, threads: int = 0, provider: str = CPU) -> None:
        """`threads`: 0 means one for each core."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, providers=[provider])
        self.provider = self._session.get_providers()[0]
        """The provider that runs the model: the CPU's if `provider` cannot be used."""

    def __call__(self, images: Images) -> tuple[Floats, Floats]:
        """Probabilities (count, classes) and energies (count,) of uint8 images (count, 32, 32, 3)."""
        starts = tqdm(range(0, len(images), BATCH_SIZE), desc="evaluating", unit="batch", disable=None)
        parts = [self._session.run(None, {"images": images[i : i + BATCH_SIZE]}) for i in starts]
        probabilities, energies = zip(*parts, strict=True)
        return np.concatenate(probabilities), np.concatenate(energies)

    def answer(self, split: Split) -> "Answers":
        return Answers(self(split.images)[0], split)

    def measure_cost(self) -> dict[str, float]:
        """Milliseconds for each image, by batch size: CPU time on a CPU, wall clock on a GPU."""
        clock = time.process_time if self.provider == CPU else time.perf_counter
        cost: dict[str, float] = {}
        for size in (1, 64):
            batch = np.random.default_rng(0).integers(0, 256, (size, INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
            runs = max(1, COST_IMAGES // size)
            timer = timeit.Timer(partial(self._session.run, None, {"images": batch}), timer=clock)
            seconds = min(timer.repeat(COST_ROUNDS, runs))  # the lowest: other processes share the machine
            cost[f"batch_{size}"] = round(1000 * seconds / runs / size, 3)
        return cost


@dataclass(frozen=True)
class Answers:
    """A model's probabilities (count, classes) for the images of a split."""

    probabilities: Floats
    split: Split

    @cached_property
    def predicted(self) -> Labels:
        return self.probabilities.argmax(1)

    @cached_property
    def confidence(self) -> Floats:
        return self.probabilities.max(1)

    def accuracy(self) -> float:
        return float((self.predicted == self.split.labels).mean())

    def confusion(self) -> NDArray[np.int64]:
        """Counts (classes, classes): row the true class, column the predicted one."""
        classes = self.probabilities.shape[1]
        counts = np.bincount(self.split.labels * classes + self.predicted, minlength=classes**2)
        return counts.reshape(classes, classes)

    def reliability(self) -> list[tuple[float, float, int]]:
        """Mean confidence, accuracy and count of each non-empty bin; 15 bins of equal width."""
        bin_of = np.minimum((self.confidence * BINS).astype(int), BINS - 1)
        correct = self.predicted == self.split.labels
        bins = [bin_of == number for number in np.unique(bin_of)]
        return [(float(self.confidence[b].mean()), float(correct[b].mean()), int(b.sum())) for b in bins]

    def calibration_error(self) -> float:
        """Expected calibration error: the mean difference between confidence and accuracy.

        Source: Guo et al., "On calibration of modern neural networks", ICML 2017.
        """
        gaps = [abs(accuracy - confidence) * count for confidence, accuracy, count in self.reliability()]
        return sum(gaps) / len(self.split.labels)


def predict(to_logits: Callable[[Tensor], Tensor], images: Images, device: torch.device) -> Tensor:
    """The logits (count, classes) of a torch model that takes uint8 (batch, 32, 32, 3)."""
    batches = torch.from_numpy(images).split(BATCH_SIZE)
    with torch.inference_mode():
        progress = tqdm(batches, desc="evaluating", unit="batch", disable=None)
        outputs = [forward(to_logits, batch.to(device)).cpu() for batch in progress]
    return torch.cat(outputs)  # outside inference mode: autograd refuses tensors made in inference mode


def six_views(to_logits: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Test-time augmentation: the image, two one-pixel shifts, and the mirror image of each.

    Weights as in airbench94: half for the unshifted pair, a quarter for each shifted pair.
    `to_logits` and the returned function take uint8 (batch, 32, 32, 3).
    """

    def mirrored(images: Tensor) -> Tensor:
        return (to_logits(images) + to_logits(images.flip(2))) / 2

    def averaged(images: Tensor) -> Tensor:
        side = images.shape[1]
        reflected = [1, *range(side), side - 2]
        padded = images[:, reflected][:, :, reflected]  # one pixel more on each side
        moved_down_right, moved_up_left = padded[:, :side, :side], padded[:, 2:, 2:]
        return mirrored(images) / 2 + (mirrored(moved_down_right) + mirrored(moved_up_left)) / 4

    return averaged


def fit_temperature(logits: Tensor, labels: Labels) -> float:
    """The divisor of the logits that minimises the negative log-likelihood (Guo et al., 2017).

    The targets are smoothed as in Platt, "Probabilistic outputs for support vector machines", 1999: with
    n images, the label of each has the weight n + 1, and every other class the weight 1. Without this
    smoothing, a model without a mistake would get the divisor 0.
    """
    log_temperature = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")
    count, classes = logits.shape
    targets = (F.one_hot(torch.from_numpy(labels), classes) * count + 1) / (count + classes)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / log_temperature.exp(), targets)
        loss.backward()
        return loss

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    return float(log_temperature.detach().exp())


def fit_energy_threshold(energies: Floats) -> float:
    """The energy threshold, which 2% of these energies exceed."""
    return float(np.quantile(energies, FAMILIAR_SHARE))


def as_uploaded(images: Images) -> Images:
    """The images, enlarged to 480 pixels, saved as JPEG of quality 60 and decoded as the backend does."""

    def degrade(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        photo = Image.fromarray(image).resize((UPLOAD_SIDE, UPLOAD_SIDE), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=UPLOAD_QUALITY)
        return np.frombuffer(decode(file.getvalue(), UPLOAD_SIDE**2), np.uint8).reshape(image.shape)

    with ThreadPoolExecutor() as threads:
        scaled = threads.map(degrade, images)
        return np.stack(list(tqdm(scaled, "as uploaded", len(images), unit="image", disable=None)))
