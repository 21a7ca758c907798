"""The recipes: the main numbers that decide how a network is trained. `training.loop` follows them.

    recipe    parameters  epochs  teacher   single view  six views  training
    fast      2.0M        10      none      90.09%       90.78%     511 s
    balanced  4.0M        22      accurate  91.63%       92.31%     3,409 s; this model ships
    accurate  9.9M        18      none      91.98%       93.05%     3,800 s
    accurate  9.9M        28      accurate  92.59%       93.05%     about 2 hours (estimated: it was paused)

Each line is one run, on two cores of an AMD EPYC with AVX-512 BF16 and no AMX. The data is a JPEG copy of
CIFAR-10. "Single view" is one forward pass, as served. "Six views" averages shifted and mirrored copies.
training/LOG.md lists every run, failed ones included.

Sources of the techniques:
- frozen patch whitening and Dirac initialisation: model.py
- label smoothing: Szegedy et al., CVPR 2016
- random crops of images padded by reflection, alternating flip, weight decay independent of the initial
  learning rate, a separate learning rate for the biases: Keller Jordan, airbench, arXiv:2404.00498
- cutout: DeVries & Taylor, arXiv:1708.04552
- Nesterov SGD: Sutskever et al., ICML 2013; Muon for the filters, and look-ahead: optimizers.py
- distillation: Hinton et al., arXiv:1503.02531; the teacher sees the same crops: Beyer et al., CVPR 2022; a
  teacher of the same size: born-again networks, Furlanello et al., ICML 2018
- outlier exposure: Hendrycks et al., ICLR 2019
Not used, because it lost accuracy: training on hard examples only (docs/decisions/0015).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The numbers that differ between recipes."""

    name: str
    widths: tuple[int, int, int]  # channels of the three groups
    depth: int  # convolutions in each group
    epochs: int
    shift: int  # pixels by which a random crop moves at most, in each direction
    padding: int = 0  # of the whitening convolution; 1 keeps the border pixels
    cutout: int = 0  # side in pixels of the square that is blanked in each image; 0 blanks none
    lookahead: bool = False


FAST = Recipe("fast", widths=(64, 256, 256), depth=2, epochs=10, shift=2)
BALANCED = Recipe(
    "balanced", widths=(64, 256, 320), depth=3, epochs=22, shift=4, padding=1, cutout=8, lookahead=True
)
ACCURATE = Recipe(
    "accurate", widths=(128, 384, 512), depth=3, epochs=18, shift=4, padding=1, cutout=10, lookahead=True
)
RECIPES = {recipe.name: recipe for recipe in (FAST, BALANCED, ACCURATE)}

# The same for all recipes.
BATCH_SIZE = 2000
# Small data sets: an epoch has about 20 batches, or fewer if they would have fewer than 100 images.
SMALL_BATCH_SIZE, SMALL_STEPS = 100, 20
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's pixels, for each channel
LABEL_SMOOTHING = 0.2
OUTLIERS = 0.06  # outliers for each training image
BIAS_LR, HEAD_LR, FILTER_LR = 0.053, 0.67, 0.24
SGD_MOMENTUM, MUON_MOMENTUM = 0.85, 0.6
WEIGHT_DECAY = 2e-6 * BATCH_SIZE  # of biases and head; Muon keeps the norm of the filters constant
WHITEN_BIAS_EPOCHS = 3  # after these epochs the whitening bias is frozen
LOOKAHEAD_STEPS = 5  # from one update of the slow weights to the next
