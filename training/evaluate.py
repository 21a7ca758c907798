"""What a trained model is worth: accuracy, per-class accuracy, confusion, calibration."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from training.data import Images, Labels

Probabilities = NDArray[np.float32]


def predict(
    model: Callable[[Tensor], Tensor], images: Images, device: torch.device, batch_size: int = 500
) -> Probabilities:
    """Run `model`, uint8 (batch, 32, 32, 3) in, over `images`; returns floats (count, classes)."""
    outputs: list[Tensor] = []
    with torch.inference_mode():
        for start in tqdm(range(0, len(images), batch_size), desc="evaluating", unit="batch"):
            batch = torch.from_numpy(images[start : start + batch_size]).to(device)
            outputs.append(model(batch).float().cpu())
    return torch.cat(outputs).numpy()


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


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    return float((probabilities.argmax(1) == labels).mean())


def confusion_matrix(probabilities: Probabilities, labels: Labels) -> NDArray[np.int64]:
    """Counts (classes, classes): row the true class, column the predicted one."""
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def calibration_error(probabilities: Probabilities, labels: Labels, bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over equal-width bins.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(correct[bin_of == b].mean() - confidence[bin_of == b].mean()) * (bin_of == b).mean()
        for b in range(bins)
        if (bin_of == b).any()
    ]
    return float(sum(gaps))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The divisor of the logits that minimises the negative log-likelihood (Guo et al., 2017)."""
    log_temperature = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], lr=0.1, max_iter=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / log_temperature.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    return float(log_temperature.detach().exp())
