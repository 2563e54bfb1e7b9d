"""FLOPs of a network whose `forward` itself asks for gradients."""

from typing import Any

import torch
from torch import Tensor, nn

from trainables.cost.flops import forward_flops


class Penalised(nn.Module):
    """Adds the gradient of its features by the image, as energy models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: Tensor, tasks: Any = None) -> Tensor:
        with torch.enable_grad():
            given = images.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.layer(given).sum(), given, create_graph=True)
        out: Tensor = self.layer(images) + gradient
        return out


def test_a_forward_that_asks_for_gradients_is_counted() -> None:
    found = forward_flops(Penalised(), (8, 8))
    once = 2 * 8 * 8 * 3 * 3 * 9
    assert found.layers == {"layer.weight": 2 * once}
    assert found.other == once  # the product with the weight that gives the gradient
