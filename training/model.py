"""The CNN and the optimizer of its filters.

The network is Keller Jordan's airbench family (https://github.com/KellerJordan/cifar10-airbench;
"94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498), written anew here: a frozen
whitening convolution, three convolution groups that start as identity maps, a scaled linear head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WHITEN_KERNEL = 2
WHITEN_WIDTH = 2 * 3 * WHITEN_KERNEL**2  # each eigenvector and its negative
INPUT_SIZE = 32


class ConvGroup(nn.Module):
    """Convolution, pooling, normalisation, GELU; then one more convolution, or two around which the
    input skips (He et al., "Deep residual learning", CVPR 2016)."""

    def __init__(self, channels_in: int, channels_out: int, depth: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.activation = nn.GELU()
        inputs = (channels_in, *(channels_out,) * (depth - 1))
        self.convs = nn.ModuleList(nn.Conv2d(n, channels_out, 3, padding="same", bias=False) for n in inputs)
        self.norms = nn.ModuleList(_norm(channels_out) for _ in inputs)
        for conv, channels in zip(self.convs, inputs, strict=True):
            # Dirac initialisation (Zagoruyko & Komodakis, "DiracNets", arXiv:1706.00388): the first
            # filters pass their input through unchanged.
            nn.init.dirac_(conv.get_parameter("weight").data[:channels])

    def forward(self, x: Tensor) -> Tensor:
        (first, *convs), (first_norm, *norms) = self.convs, self.norms
        x = self.activation(first_norm(self.pool(first(x))))
        skipped = x
        for index, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
            x = norm(conv(x))
            if index == 1:
                x = x + skipped
            x = self.activation(x)
        return x


class Net(nn.Module):
    """Normalised float images (batch, 3, 32, 32) to logits (batch, classes).

    widths: channels of the three groups; depth: convolutions in each, 2 or 3; padding: of the whitening, 0 or
    1. The sides are 31, 15, 7 and 3, so each pooling drops the last row and column; padded, 33, 16, 8 and 4.
    """

    def __init__(self, classes: int, widths: tuple[int, int, int], depth: int, padding: int = 0) -> None:
        super().__init__()
        self.arguments = {"classes": classes, "widths": widths, "depth": depth, "padding": padding}
        self.whiten = nn.Conv2d(3, WHITEN_WIDTH, WHITEN_KERNEL, padding=padding)
        self.whiten.weight.requires_grad = False
        inputs = (WHITEN_WIDTH, *widths)
        self.groups = nn.Sequential(*(ConvGroup(a, b, depth) for a, b in zip(inputs, widths, strict=False)))
        self.activation = nn.GELU()
        self.pool = nn.MaxPool2d(3 + padding)
        self.head = nn.Linear(widths[-1], classes, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.whiten(x))  # (batch, 24, 31, 31), padded (..., 33, 33)
        x = self.groups(x)  # (batch, widths[2], 3, 3), padded (..., 4, 4)
        x = self.pool(x).flatten(1)  # (batch, widths[2])
        return self.head(x) / x.shape[1]  # (batch, classes)

    def set_whitening(self, images: Tensor, epsilon: float = 5e-4) -> None:
        """Set the first convolution so that its outputs are uncorrelated with unit variance.

        images: normalised floats (count, 3, 32, 32); a few thousand are enough.
        Source: David Page, "How to train your ResNet", 2019; Tysam Balsam's hlb-CIFAR10, 2023.
        """
        patches = F.unfold(images, WHITEN_KERNEL)  # (count, 12, positions)
        patches = patches.transpose(1, 2).reshape(-1, patches.shape[1])  # (count * positions, 12)
        covariance = patches.T @ patches / len(patches)
        eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
        filters = (eigenvectors / (eigenvalues + epsilon).sqrt()).T  # one filter a row
        filters = filters.flip(0).reshape(-1, 3, WHITEN_KERNEL, WHITEN_KERNEL)
        self.whiten.weight.data.copy_(torch.cat((filters, -filters)))


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is replaced by the nearest semi-orthogonal matrix.

    Each filter bank keeps a fixed norm, so that the learning rate alone sets the angle of a step.
    Source: Keller Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024).
    """

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for param in group["params"]:
                gradient = param.grad
                state = self.state[param]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(gradient)
                momentum = state["momentum"].mul_(group["momentum"]).add_(gradient)
                update = gradient.add(momentum, alpha=group["momentum"])
                param.mul_(len(param) ** 0.5 / param.norm())
                matrix = orthogonalise(update.reshape(len(update), -1))
                param.add_(matrix.view_as(param), alpha=-group["lr"])


def orthogonalise(matrix: Tensor, steps: int = 3, epsilon: float = 1e-7) -> Tensor:
    """Push the singular values of `matrix` towards 1 by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix / (matrix.norm() + epsilon)
    tall = wide.shape[0] > wide.shape[1]
    wide = wide.T if tall else wide
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.T if tall else wide


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad = False
    return norm
