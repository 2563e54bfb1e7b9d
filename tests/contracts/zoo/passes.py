"""Networks whose passes do more than call layers: keep, leave out, draw, compute themselves."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.contracts.zoo.network import WIDTH, Zoo, conv


class KeepsTensors(Zoo):
    """Keeps features, a history, a counter and an average of its own between passes."""

    prunable = ("mix.weight",)

    def parts(self) -> None:
        self.mix = conv()
        self.average = torch.zeros(WIDTH)
        self.history: list[Tensor] = []
        self.counts = {"passes": 0}
        self.passes = 0

    def middle(self, features: Tensor) -> Tensor:
        self.last = self.mix(features)
        self.passes += 1
        self.counts["passes"] += 1
        self.history = [*self.history[-1:], self.last]
        self.average.mul_(0.9).add_(features.detach().mean((0, 2, 3)), alpha=0.1)
        return self.last - self.average[:, None, None]


class Checkpointed(Zoo):
    prunable = ("block.0.weight",)
    reentrant: ClassVar[bool] = False

    def parts(self) -> None:
        self.block = nn.Sequential(conv(), nn.BatchNorm2d(WIDTH), nn.Dropout(0.1), nn.ReLU())

    def middle(self, features: Tensor) -> Tensor:
        out = checkpoint(self.block, features, use_reentrant=self.reentrant)
        assert isinstance(out, Tensor)
        return out


class CheckpointedReentrant(Checkpointed):
    reentrant = True


class StochasticDepth(Zoo):
    """A residual block that training leaves out by chance."""

    prunable = ("mix.weight",)

    def parts(self) -> None:
        self.mix = conv()

    def middle(self, features: Tensor) -> Tensor:
        if self.training and float(torch.rand(())) < 0.5:
            return features
        return features + F.relu(self.mix(features))


class Dropout(Zoo):
    prunable = ("mix.weight",)

    def parts(self) -> None:
        self.mix, self.drop = conv(), nn.Dropout2d(0.2)

    def middle(self, features: Tensor) -> Tensor:
        return F.dropout(self.drop(F.relu(self.mix(features))), 0.1, self.training)


class Functional(Zoo):
    """Calls with the weights of layers: standardised, transposed and as they are."""

    prunable = ("mix.weight", "linear.weight")

    def parts(self) -> None:
        self.mix, self.linear = conv(), nn.Linear(WIDTH, WIDTH)

    def middle(self, features: Tensor) -> Tensor:
        weight = self.mix.weight
        centred = weight - weight.mean((1, 2, 3), keepdim=True)
        features = F.relu(F.conv2d(features, centred, self.mix.bias, padding=1))
        features = F.linear(features.movedim(1, -1), self.linear.weight, self.linear.bias)
        return (features @ self.linear.weight.T).movedim(-1, 1)


class ReadsValues(Zoo):
    """Makes tensors itself and decides by their values."""

    prunable = ("mix.weight",)

    def parts(self) -> None:
        self.mix = conv()

    def middle(self, features: Tensor) -> Tensor:
        scale = torch.ones(WIDTH, 1, 1, device="cpu").to(features.device)
        return F.relu(self.mix(features * scale)) * (1 if features.mean().item() >= 0 else 2)


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return value / 2

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0] / 2


class OwnFunction(Zoo):
    prunable = ("mix.weight",)

    def parts(self) -> None:
        self.mix = conv()

    def middle(self, features: Tensor) -> Tensor:
        halved = _Halved.apply(self.mix(features))
        assert isinstance(halved, Tensor)
        return F.relu(halved)
