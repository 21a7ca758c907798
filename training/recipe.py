"""The recipes: every number that decides how a network is trained. `training.loop` follows them.

fast, 2.0M parameters, 10 epochs: 90.09% single view, 90.78% six views, 511 s.
balanced, 4.0M parameters, 22 epochs, accurate as its teacher: 91.63% and 92.31%, 3,409 s. This model ships.
accurate, 9.9M parameters, 18 epochs: 91.98% and 93.05%, 3,800 s. With another accurate as its teacher and 28
epochs: 92.59% and 93.05%, about 2 hours (estimated: the run was paused).
Each n = 1, on two cores of an AMD EPYC with AVX-512 BF16 and no AMX.

The data is a JPEG copy of CIFAR-10. training/LOG.md lists every run, failed ones included. "Single view" is
one forward pass, as served. "Six views" averages shifted and mirrored copies.

Sources of the techniques:
- frozen patch whitening and Dirac initialisation: model.py
- label smoothing: Szegedy et al., CVPR 2016
- reflect-padded random crops, alternating flip, learning rates independent of weight decay and momentum, a
  larger learning rate for the biases: Keller Jordan, airbench, arXiv:2404.00498
- cutout: DeVries & Taylor, arXiv:1708.04552
- Nesterov SGD: Sutskever et al., ICML 2013; Muon for the filters, and look-ahead: optimizers.py
- distillation: Hinton et al., arXiv:1503.02531; of each crop: Beyer et al., CVPR 2022; from a network of the
  same size: born-again networks, Furlanello et al., ICML 2018
- outlier exposure: Hendrycks et al., ICLR 2019
Not used, because it failed: hard examples chosen by a proxy network (docs/decisions/0015).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What differs between recipes."""

    name: str
    widths: tuple[int, int, int]  # channels of the three groups
    depth: int  # convolutions in each group
    epochs: int
    shift: int  # pixels that the random crop moves each way
    padding: int = 0  # of the whitening; 1 keeps the border pixels
    cutout: int = 0  # side of the blanked square in pixels; 0 is off
    lookahead: bool = False
    outliers: float = 0.06  # outliers for each image


FAST = Recipe("fast", widths=(64, 256, 256), depth=2, epochs=10, shift=2)
BALANCED = Recipe(
    "balanced", widths=(64, 256, 320), depth=3, epochs=22, shift=4, padding=1, cutout=8, lookahead=True
)
ACCURATE = Recipe(
    "accurate", widths=(128, 384, 512), depth=3, epochs=18, shift=4, padding=1, cutout=10, lookahead=True
)
RECIPES = {recipe.name: recipe for recipe in (FAST, BALANCED, ACCURATE)}

# What all recipes share.
BATCH_SIZE = 2000
SMALL_BATCH_SIZE, STEPS = (
    100,
    20,
)  # small data sets: batches shrink to 100 images, so that an epoch has 20 steps
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's pixels, for each channel
LABEL_SMOOTHING = 0.2
BIAS_LR, HEAD_LR, FILTER_LR = 0.053, 0.67, 0.24
SGD_MOMENTUM, MUON_MOMENTUM = 0.85, 0.6
WEIGHT_DECAY = 2e-6 * BATCH_SIZE  # of biases and head; Muon keeps the norm of the filters constant
WHITEN_BIAS_EPOCHS = 3  # then the whitening bias is frozen
LOOKAHEAD_STEPS = 5  # between two updates of the slow weights
