"""What changes the weights at each step: SGD, Muon, their learning rates, and look-ahead."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from training.model import Net
from training.recipe import (
    BIAS_LR,
    FILTER_LR,
    HEAD_LR,
    LOOKAHEAD_STEPS,
    MUON_MOMENTUM,
    SGD_MOMENTUM,
    WEIGHT_DECAY,
)


class Optimizers:
    """SGD for biases and head, Muon for the filters, and optionally look-ahead.

    The learning rates fall linearly to zero: over `steps`, that of the whitening bias over `whiten_steps`.
    """

    def __init__(self, net: Net, steps: int, whiten_steps: int, *, lookahead: bool = False) -> None:
        def group(params: list[Any], lr: float) -> dict[str, Any]:
            return {"params": params, "lr": lr, "weight_decay": WEIGHT_DECAY / lr}

        named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
        biases = group([p for name, p in named if "norm" in name], BIAS_LR)
        groups = [group([net.whiten.bias], BIAS_LR), biases, group([net.head.weight], HEAD_LR)]
        self.sgd = torch.optim.SGD(groups, momentum=SGD_MOMENTUM, nesterov=True)
        self.muon = Muon([p for _, p in named if p.ndim == 4], lr=FILTER_LR, momentum=MUON_MOMENTUM)
        self.filter_lr = FILTER_LR  # of the last step
        self.lookahead = Lookahead(net) if lookahead else None
        self._done, self._steps = 0, steps

        def fall(step: int) -> float:
            return 1 - step / steps

        def fall_first(step: int) -> float:
            return max(0.0, 1 - step / max(1, whiten_steps))

        self._schedules = [LambdaLR(self.sgd, [fall_first, fall, fall]), LambdaLR(self.muon, fall)]

    def step(self) -> None:
        """Change the weights by their gradients, and clear these."""
        self.filter_lr = self.muon.param_groups[0]["lr"]
        for optimizer in (self.sgd, self.muon):
            optimizer.step()
            optimizer.zero_grad()
        for schedule in self._schedules:
            schedule.step()
        self._done += 1
        if self.lookahead and self._done % LOOKAHEAD_STEPS == 0:
            self.lookahead.update(self._done / self._steps)
        if self.lookahead and self._done == self._steps:
            self.lookahead.finish()

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
            slow = self.lookahead.slow
            self.lookahead.slow = {name: value.to(slow[name].device) for name, value in state["slow"].items()}
        self._done = state["done"]


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is replaced by the nearest semi-orthogonal matrix.

    Each filter bank keeps a fixed norm, so the learning rate alone sets the angle of a step.
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
    """Slow weights that follow the network's weights and pull them back, more strongly late in the run.

    Source: Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", NeurIPS 2019.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self.slow = {name: value.clone() for name, value in self._floats()}

    def update(self, share: float) -> None:
        """`share`: how much of the run is done, 0 to 1."""
        self._pull(0.95**LOOKAHEAD_STEPS * share**3)

    def finish(self) -> None:
        """End the run on the slow weights."""
        self._pull(1.0)

    def _pull(self, decay: float) -> None:
        for name, value in self._floats():
            value.copy_(self.slow[name].lerp_(value, 1 - decay))

    def _floats(self) -> list[tuple[str, Tensor]]:
        return [(name, t) for name, t in self._net.state_dict().items() if t.is_floating_point()]
