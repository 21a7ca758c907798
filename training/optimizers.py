"""The optimizers, SGD and Muon, with their learning rates and look-ahead."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from training import recipe
from training.model import Net


class Optimizers:
    """SGD for biases and head, Muon for the filters, and optionally look-ahead.

    The learning rates fall linearly to zero: for the whitening bias over `whiten_steps`, else over `steps`.
    """

    def __init__(self, net: Net, steps: int, whiten_steps: int, *, lookahead: bool = False) -> None:
        def group(params: list[Any], lr: float) -> dict[str, Any]:
            return {"params": params, "lr": lr, "weight_decay": recipe.WEIGHT_DECAY / lr}

        filters = [p for p in net.groups.parameters() if p.ndim == 4]
        biases = [p for p in net.groups.parameters() if p.ndim == 1 and p.requires_grad]
        groups = [
            group([net.whiten.bias], recipe.BIAS_LR),
            group(biases, recipe.BIAS_LR),
            group([net.head.weight], recipe.HEAD_LR),
        ]
        self.sgd = torch.optim.SGD(groups, momentum=recipe.SGD_MOMENTUM, nesterov=True)
        self.muon = Muon(filters, lr=recipe.FILTER_LR, momentum=recipe.MUON_MOMENTUM)
        self.filter_lr = recipe.FILTER_LR  # the learning rate of the filters in the latest step
        self.lookahead = Lookahead(net) if lookahead else None
        self._done, self._steps = 0, steps

        def fall(steps: int) -> Callable[[int], float]:
            return lambda step: max(0.0, 1 - step / steps)

        falls = [fall(whiten_steps), fall(steps), fall(steps)]  # one for each group
        self._schedules = [LambdaLR(self.sgd, falls), LambdaLR(self.muon, fall(steps))]

    def step(self) -> None:
        """Change the weights by their gradients, and clear the gradients."""
        self.filter_lr = self.muon.param_groups[0]["lr"]
        for optimizer in (self.sgd, self.muon):
            optimizer.step()
            optimizer.zero_grad()
        for schedule in self._schedules:
            schedule.step()
        self._done += 1
        if self.lookahead and self._done % recipe.LOOKAHEAD_STEPS == 0:
            self.lookahead.pull(0.95**recipe.LOOKAHEAD_STEPS * (self._done / self._steps) ** 3)
        if self.lookahead and self._done == self._steps:
            self.lookahead.pull(1.0)  # the slow weights are the result of the run

    def state_dict(self) -> dict[str, Any]:
        return {
            "sgd": self.sgd.state_dict(),
            "muon": self.muon.state_dict(),
            "schedules": [schedule.state_dict() for schedule in self._schedules],
            "slow": self.lookahead and self.lookahead.slow,
            "done": self._done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sgd.load_state_dict(state["sgd"])
        self.muon.load_state_dict(state["muon"])
        for schedule, saved in zip(self._schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        if self.lookahead:
            for name, value in state["slow"].items():
                self.lookahead.slow[name].copy_(value)
        self._done = state["done"]


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is replaced by a nearly semi-orthogonal matrix.

    The filters of a convolution keep a fixed norm, so only the learning rate sets how far a step turns them.
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
    """Push the singular values of `matrix` towards 1 with a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix / (matrix.norm() + epsilon)
    tall = wide.shape[0] > wide.shape[1]
    wide = wide.T if tall else wide
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.T if tall else wide


class Lookahead:
    """Slow weights that follow the network's weights and pull them back, more strongly late in a run.

    Source: Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", NeurIPS 2019.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self.slow = {name: value.clone() for name, value in self._floats()}

    def pull(self, decay: float) -> None:
        """Move the slow weights `1 - decay` of the way to the network's, then copy them into the network."""
        for name, value in self._floats():
            value.copy_(self.slow[name].lerp_(value, 1 - decay))

    def _floats(self) -> list[tuple[str, Tensor]]:
        return [(name, t) for name, t in self._net.state_dict().items() if t.is_floating_point()]
