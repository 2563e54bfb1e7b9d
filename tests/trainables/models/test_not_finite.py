"""A network that predicts NaN before it was trained is named, with the part that began."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.models.not_finite import Weights, require_finite_predictions


class Root(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.sqrt() if self.training else features


class Net(nn.Module):
    def __init__(self, *middle: nn.Module) -> None:
        super().__init__()
        self.stem, self.middle = nn.Conv2d(3, 4, 1), nn.Sequential(*middle)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        return {"a": self.head(self.norm(self.middle(self.stem(images))))}


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_part_that_began_is_named_and_nothing_changes() -> None:
    model = Net(nn.ReLU(), nn.Conv2d(4, 4, 1), Root()).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"prediction of a must be finite, got nan before any step"):
        require_finite_predictions(model, IMAGES, ("a",))
    with pytest.raises(UserError, match=r"first out of `middle\.2` \(Root\); mend it there"):
        require_finite_predictions(model, IMAGES, ("a",))
    assert not model.training
    assert not model.middle[2]._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_finite_predictions_pass_and_values_of_its_own_are_the_models() -> None:
    model = Net(nn.ReLU())
    require_finite_predictions(model, IMAGES, ("a",))

    class Divides(Net):
        def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
            return {"a": super().forward(images)["a"] / 0}

    with pytest.raises(UserError, match="first in the model itself"):
        require_finite_predictions(Divides(), IMAGES, ("a",))


def test_weights_and_buffers_that_a_step_has_lost_are_put_back() -> None:
    model = Net()
    held, before = Weights(model), model.stem.weight.detach().clone()
    with torch.no_grad():
        model.stem.weight.fill_(math.nan)
    model.norm.running_mean.fill_(math.nan)
    held.put_back()
    assert not model.norm.running_mean.any()
    assert torch.equal(model.stem.weight, before)
