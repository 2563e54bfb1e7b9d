"""Models are laid out for speed, but for layers that oneDNN would get wrong in that layout."""

import copy

import pytest
import torch
from torch import Tensor, nn

from trainables.training.device import placed


def is_channels_last(model: nn.Module) -> bool:
    weight = next(model.parameters())
    assert weight.shape[1:] == (3, 3, 3)  # of 1x1 both layouts are one
    return weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("narrow", "expected"),
    [
        (nn.Conv2d(16, 8, 1, stride=2), True),
        (nn.Conv2d(32, 8, 1, stride=2, groups=2), True),
        (nn.Conv2d(4, 8, 1), True),
        (nn.Conv2d(4, 8, (1, 2), stride=2), True),
        (nn.Conv2d(15, 8, 1, stride=2), False),
        (nn.Conv2d(4, 8, 1, stride=(1, 2)), False),
        (nn.Conv2d(32, 8, 1, stride=2, groups=4), False),
    ],
    ids=["wide", "wide-groups", "no-stride", "no-1x1", "narrow", "one-stride", "narrow-groups"],
)
def test_narrow_strided_layers_keep_a_model_contiguous_on_a_cpu(
    narrow: nn.Module, expected: bool
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(narrow))
    assert placed(model, "cpu", channels_last=True) is model
    assert is_channels_last(model) == expected
    assert not is_channels_last(placed(model, "cpu", channels_last=False))


@pytest.mark.parametrize("channels", [1, 4, 7, 8, 12, 15, 16])
def test_gradients_of_strided_layers_are_those_without_onednn(channels: int) -> None:
    """In channels-last the narrow ones crash, hang or are wrong, by the CPU and the threads."""
    torch.manual_seed(0)
    stem, strided = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 16, 1, stride=2)
    model = placed(nn.Sequential(stem, strided), "cpu", channels_last=True)
    images = torch.randn(32, 3, 32, 32)
    gradients = []
    for enabled in [True] * 10 + [False]:
        with torch.backends.mkldnn.flags(enabled=enabled):
            model.zero_grad()
            model(images).square().mean().backward()
        gradients.append(strided.weight.grad.clone())
    for found in gradients[:-1]:
        torch.testing.assert_close(found, gradients[-1])


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_narrow_strided_layers_get_contiguous_features_whatever_comes(
    channels: int, copied: bool, named: bool
) -> None:
    given = []

    class Seen(nn.Conv2d):
        def forward(self, features: Tensor) -> Tensor:
            given.append(features)
            return super().forward(features)

    layer = placed(Seen(channels, 8, 1, stride=2), "cpu", channels_last=True)
    features = torch.randn(2, 6, 6, channels).permute(0, 3, 1, 2)
    called = copy.deepcopy(layer) if copied else layer
    called(features=features) if named else called(features)
    assert torch.equal(given[0], features)
    assert given[0].is_contiguous() == (channels == 4)
