"""The network: its whitening, its groups of convolutions, and its size."""

import pytest
import torch

from training.model import ConvGroup, Net
from training.recipe import RECIPES


def test_whitening_decorrelates_patches_of_smooth_images() -> None:
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(500, 3, 34, 34), 3, stride=1)  # neighbours correlate
    net = Net(10, (8, 8, 8), depth=2)
    net.set_whitening(smooth, epsilon=0)
    with torch.no_grad():
        whitened = torch.nn.functional.conv2d(smooth, net.whiten.weight)[:, :12]
    channels = whitened.transpose(0, 1).reshape(12, -1)
    covariance = channels @ channels.T / channels.shape[1]
    assert torch.allclose(covariance, torch.eye(12), atol=0.02)
    assert torch.equal(net.whiten.weight[:12], -net.whiten.weight[12:])


def test_a_fresh_convolution_passes_its_input_through() -> None:
    group = ConvGroup(4, 8, depth=3)
    image = torch.randn(2, 4, 6, 6)
    assert torch.equal(group.convs[0](image)[:, :4], image)


def test_the_skip_connection_of_a_deep_group_spans_its_last_two_convolutions() -> None:
    group = ConvGroup(4, 8, depth=3).eval()
    image = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        for conv in group.convs[1:]:
            conv.get_parameter("weight").zero_()
        first = group.activation(group.norms[0](group.pool(group.convs[0](image))))
        assert torch.allclose(group(image), group.activation(first))


@pytest.mark.parametrize(("recipe", "millions"), [("fast", 2), ("balanced", 4), ("accurate", 10)])
def test_the_network_of_each_recipe_has_its_documented_size(recipe: str, millions: int) -> None:
    chosen = RECIPES[recipe]
    net = Net(10, chosen.widths, chosen.depth, chosen.padding)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6) == millions


@pytest.mark.parametrize(("padding", "side"), [(0, 3), (1, 4)])
def test_features_are_three_pixels_wide_or_four_if_the_whitening_is_padded(padding: int, side: int) -> None:
    net = Net(10, (8, 8, 8), depth=2, padding=padding).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = net.groups(net.activation(net.whiten(images)))
    assert features.shape == (2, 8, side, side)
    assert net.pool(features).shape == (2, 8, 1, 1)
