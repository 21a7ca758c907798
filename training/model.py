"""The CNN: a whitening convolution with frozen filters, three convolution groups, a scaled linear head.

The architecture is that of Keller Jordan's airbench (https://github.com/KellerJordan/cifar10-airbench; "94%
on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498). The code was written for this project.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WHITEN_KERNEL = 2
WHITEN_WIDTH = 2 * 3 * WHITEN_KERNEL**2  # each eigenvector and its negative
INPUT_SIZE = 32


class ConvGroup(nn.Module):
    """A convolution with pooling, then one more convolution, or two more with a skip connection over both.

    A batch norm and GELU follow each convolution.
    Source of the skip connection: He et al., "Deep residual learning", CVPR 2016.
    """

    def __init__(self, channels_in: int, channels_out: int, depth: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.activation = nn.GELU()
        inputs = (channels_in, *(channels_out,) * (depth - 1))
        self.convs = nn.ModuleList(nn.Conv2d(n, channels_out, 3, padding="same", bias=False) for n in inputs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels_out, eps=1e-12, momentum=0.4) for _ in inputs)
        for conv, norm, channels in zip(self.convs, self.norms, inputs, strict=True):
            norm.get_parameter("weight").requires_grad = False
            # Before training, the first filters pass their input through unchanged.
            # Source: Zagoruyko & Komodakis, "DiracNets", arXiv:1706.00388.
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
    """Maps normalised float images (batch, 3, 32, 32) to logits (batch, classes).

    `widths` are the channels of the three groups, `depth` is the number of convolutions in each, 2 or 3.
    `padding` is that of the whitening convolution, 0 or 1. Without padding, images are 31, 15, 7 and 3 pixels
    wide after the whitening and the groups, so each pooling drops a row and a column. With padding they are
    33, 16, 8 and 4 pixels wide.
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
        """Set the first convolution: 12 uncorrelated outputs with unit variance, and their negatives.

        `images` are normalised floats (count, 3, 32, 32); a few thousand are enough.
        Source: David Page, "How to train your ResNet", 2019; Tysam Balsam's hlb-CIFAR10, 2023.
        """
        patches = F.unfold(images, WHITEN_KERNEL)  # (count, 12, positions)
        patches = patches.transpose(1, 2).reshape(-1, patches.shape[1])  # (count * positions, 12)
        covariance = patches.T @ patches / len(patches)
        eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
        filters = (eigenvectors / (eigenvalues + epsilon).sqrt()).T  # (12, 12): each row is a filter
        filters = filters.flip(0).reshape(-1, 3, WHITEN_KERNEL, WHITEN_KERNEL)
        self.whiten.weight.data.copy_(torch.cat((filters, -filters)))
