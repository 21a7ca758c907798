"""What a trained model is worth: accuracy, calibration, robustness, and whether it knows an outsider."""

import io
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from training.data import Images, Labels, Split
from training.hardware import forward
from training.model import INPUT_SIZE

Floats = NDArray[np.float32]
BINS = 15
UPLOAD_SIDE, UPLOAD_QUALITY = 480, 60
FAINT = 0.15  # contrast that is left of noise of 210 pixels a side when it is scaled down: 32 / 210
COST_ROUNDS, COST_IMAGES = 3, 32
FAMILIAR_SHARE = 0.98  # of the held-out images pass the energy threshold


class Engine:
    """An ONNX file on ONNX Runtime: what is published is what is measured."""

    def __init__(self, path: Path, threads: int = 0, provider: str = "CPUExecutionProvider") -> None:
        """`threads`: 0 is one for each core."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, providers=[provider])
        self._provider = provider

    def __call__(self, images: Images, batch_size: int = 500) -> tuple[Floats, Floats]:
        """Probabilities (count, classes) and energies (count,) of uint8 images (count, 32, 32, 3)."""
        starts = tqdm(range(0, len(images), batch_size), desc="evaluating", unit="batch", disable=None)
        parts = [self._session.run(None, {"images": images[i : i + batch_size]}) for i in starts]
        probabilities, energies = zip(*parts, strict=True)
        return np.concatenate(probabilities), np.concatenate(energies)

    def answer(self, split: Split) -> "Answers":
        return Answers(self(split.images)[0], split)

    def milliseconds(self, batch_size: int) -> float:
        """The time of one image in a batch of this size: CPU time on a CPU, else by the wall clock."""
        clock = time.process_time if self._provider == "CPUExecutionProvider" else time.perf_counter
        batch = np.random.default_rng(0).integers(0, 256, (batch_size, INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
        rounds: list[float] = []
        for _ in range(COST_ROUNDS):
            started = clock()
            for _ in range(max(1, COST_IMAGES // batch_size)):
                self._session.run(None, {"images": batch})
            rounds.append((clock() - started) / max(1, COST_IMAGES // batch_size) / batch_size)
        return 1000 * min(rounds)  # the lowest: others share the machine


@dataclass(frozen=True)
class Answers:
    """A model's probabilities (count, classes) for the images of a split."""

    probabilities: Floats
    split: Split

    @property
    def labels(self) -> Labels:
        return self.split.labels

    @cached_property
    def predicted(self) -> Labels:
        return self.probabilities.argmax(1)

    @cached_property
    def confidence(self) -> Floats:
        return self.probabilities.max(1)

    def accuracy(self) -> float:
        return float((self.predicted == self.labels).mean())

    def confusion(self) -> NDArray[np.int64]:
        """Counts (classes, classes): row the true class, column the predicted one."""
        classes = self.probabilities.shape[1]
        return np.bincount(self.labels * classes + self.predicted, minlength=classes**2).reshape(
            classes, classes
        )

    def reliability(self) -> list[tuple[float, float, int]]:
        """Mean confidence, accuracy and count of each of 15 equal-width bins that is not empty."""
        bin_of = np.minimum((self.confidence * BINS).astype(int), BINS - 1)
        correct = self.predicted == self.labels
        inside = [bin_of == number for number in range(BINS)]
        return [
            (float(self.confidence[b].mean()), float(correct[b].mean()), int(b.sum()))
            for b in inside
            if b.any()
        ]

    def calibration_error(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy.

        Source: Guo et al., "On calibration of modern neural networks", ICML 2017.
        """
        gaps = [abs(accuracy - confidence) * count for confidence, accuracy, count in self.reliability()]
        return sum(gaps) / len(self.labels)


def predict(
    logits: Callable[[Tensor], Tensor], images: Images, device: torch.device, batch_size: int = 500
) -> Tensor:
    """The logits (count, classes) of a torch model that takes uint8 (batch, 32, 32, 3)."""
    outputs: list[Tensor] = []
    with torch.inference_mode():
        starts = range(0, len(images), batch_size)
        for start in tqdm(starts, desc="evaluating", unit="batch", disable=None):
            batch = torch.from_numpy(images[start : start + batch_size]).to(device)
            outputs.append(forward(logits, batch).cpu())
    return torch.cat(outputs)


def six_views(logits: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Test-time augmentation: the image, two one-pixel shifts, and the mirror image of each.

    Weights as in airbench94: half for the unshifted pair, a quarter for each shifted pair.
    `logits` takes uint8 (batch, 32, 32, 3); so does the function returned.
    """

    def mirrored(images: Tensor) -> Tensor:
        return (logits(images) + logits(images.flip(2))) / 2

    def averaged(images: Tensor) -> Tensor:
        side = images.shape[1]
        chw = images.permute(0, 3, 1, 2).float()
        padded = F.pad(chw, (1,) * 4, "reflect").to(torch.uint8).permute(0, 2, 3, 1)
        up_left, down_right = padded[:, :side, :side], padded[:, 2:, 2:]
        return mirrored(images) / 2 + (mirrored(up_left) + mirrored(down_right)) / 4

    return averaged


def fit_temperature(logits: Tensor, labels: Labels) -> float:
    """The divisor of the logits that minimises the negative log-likelihood (Guo et al., 2017).

    One more image of each class is counted with every image (after Platt, "Probabilistic outputs for support
    vector machines", 1999): where no answer is wrong, the best divisor would be zero otherwise.
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
    """The energy that two in a hundred of these images exceed."""
    return float(np.quantile(energies, FAMILIAR_SHARE))


def as_uploaded(images: Images) -> Images:
    """The images as photos that people upload: 480 pixels wide, JPEG of quality 60, scaled back."""

    def take_and_scale(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        photo = Image.fromarray(image).resize((UPLOAD_SIDE, UPLOAD_SIDE), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=UPLOAD_QUALITY)
        return np.asarray(Image.open(file).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.LANCZOS))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        scaled = threads.map(take_and_scale, images)
        return np.stack(list(tqdm(scaled, "as uploaded", len(images), unit="image", disable=None)))


def make_outsiders(images: Images, seed: int) -> dict[str, Images]:
    """Up to 1,000 pictures of each of four kinds that belong to no class: noise, the same with as little
    contrast as a large picture of noise has when it is scaled down, plain colours, and these images with
    their 8-pixel tiles shuffled."""
    random = np.random.default_rng(seed)
    count, tile = min(1000, len(images)), 8
    per_side = INPUT_SIZE // tile
    chosen = images[random.permutation(len(images))[:count]]  # of every class, though they are in its order
    tiles = chosen.reshape(count, per_side, tile, per_side, tile, 3).swapaxes(2, 3)
    tiles = tiles.reshape(count, per_side**2, tile, tile, 3)
    shuffled = np.stack([picture[random.permutation(per_side**2)] for picture in tiles])
    shuffled = shuffled.reshape(count, per_side, per_side, tile, tile, 3).swapaxes(2, 3)
    noise = random.integers(0, 256, (count, INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)
    return {
        "noise": noise,
        "faint noise": (127.5 + FAINT * (noise - 127.5)).astype(np.uint8),
        "plain colours": np.broadcast_to(
            random.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8), (count, INPUT_SIZE, INPUT_SIZE, 3)
        ).copy(),
        "shuffled tiles": shuffled.reshape(count, INPUT_SIZE, INPUT_SIZE, 3),
    }
