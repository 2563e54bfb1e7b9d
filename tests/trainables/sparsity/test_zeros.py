"""A network that changes its pruned weights is told so, and one that has diverged is not."""

import math

import pytest
import torch

from tests.trainables.sparsity.toys import ToyNetwork
from trainables.errors import UserError
from trainables.sparsity.masking.masks import MaskRegistry


@pytest.mark.parametrize("value", [-1e-3, math.inf])
def test_a_pruned_weight_that_is_not_zero_is_named(value: float) -> None:
    registry = half_pruned(value)
    with pytest.raises(UserError, match=r"its forward changes those of `trunk\.0\.weight`"):
        registry.require_zeros("model 'toy'")


def test_a_weight_that_has_diverged_is_not_the_forwards_doing() -> None:
    half_pruned(math.nan).require_zeros("model 'toy'")


def half_pruned(value: float) -> MaskRegistry:
    model = ToyNetwork()
    registry = MaskRegistry(model)
    masks = {name: torch.ones_like(mask) for name, mask in registry.keep().items()}
    masks["trunk.0.weight"][::2] = False
    registry.update(masks, None)
    with torch.no_grad():
        model.trunk[0].weight.fill_(value)
    return registry
