"""The optimizers: what a step does, and how the learning rates fall."""

import pytest
import torch

from tests.training.plans import make_small_plan
from training import loop
from training.batches import Batches
from training.optimizers import Lookahead, Muon, Optimizers, orthogonalise


def test_learning_rates_fall_to_zero_and_the_rate_of_the_whitening_bias_falls_faster() -> None:
    plan = make_small_plan()
    net = loop.build(plan, Batches(plan, torch.device("cpu")))
    optimizers = Optimizers(net, steps=80, whiten_steps=30)

    def step(times: int) -> list[float]:
        """Step; returns the next learning rates of the whitening bias, other biases, head and filters."""
        for _ in range(times):
            for parameter in net.parameters():
                parameter.grad = torch.zeros_like(parameter)
            optimizers.step()
        return [group["lr"] for group in (*optimizers.sgd.param_groups, *optimizers.muon.param_groups)]

    assert step(0) == [0.053, 0.053, 0.67, 0.24]
    assert step(15) == pytest.approx([0.053 * 0.5, *(rate * 0.8125 for rate in (0.053, 0.67, 0.24))])
    assert step(15) == pytest.approx([0, *(rate * 0.625 for rate in (0.053, 0.67, 0.24))])
    assert optimizers.filter_lr == pytest.approx(0.24 * (1 - 29 / 80))  # in the latest step, the 30th
    assert step(50) == [0, 0, 0, 0]


def test_lookahead_with_decay_0_keeps_the_network_and_with_decay_1_restores_the_slow_weights() -> None:
    net = torch.nn.Linear(1, 1)
    lookahead = Lookahead(net)
    start = net.weight.item()
    with torch.no_grad():
        net.weight += 1
    lookahead.pull(0.0)
    assert net.weight.item() == pytest.approx(start + 1)
    with torch.no_grad():
        net.weight += 1
    lookahead.pull(1.0)
    assert net.weight.item() == pytest.approx(start + 1)


def test_orthogonalising_brings_all_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((16, 40), (40, 16)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape), steps=5))
        assert 0.6 < values.min() <= values.max() < 1.4


def test_muon_lowers_the_loss_and_gives_its_filters_a_fixed_norm() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    target = torch.randn(8, 36)
    optimizer = Muon([weight], lr=0.05, momentum=0.6)
    losses: list[float] = []
    for _ in range(40):
        loss = -torch.nn.functional.cosine_similarity(weight.flatten(1), target).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < -0.9 < losses[0]
    assert abs(weight.norm().item() - 8**0.5) < 0.5
