"""Random multitask networks with everything that ties channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.base import SHARED

PIECES = ("conv", "residual", "dense_block", "depthwise", "transposed", "twice", "norm_only", "glu")


class Residual(nn.Module):
    """x + f(x): the input's channels are tied to the output's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width + 2, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width + 2)
        self.conv2 = nn.Conv2d(width + 2, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.norm1(self.conv1(x)))))


class DenseBlock(nn.Module):
    """cat(x, f(x)), brought back to the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.grow = nn.Conv2d(width, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(width + 3)
        self.mix = nn.Conv2d(width + 3, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(F.relu(self.norm(torch.cat([x, self.grow(x)], dim=1))))


class Depthwise(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 1),
        )


class Transposed(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 2, stride=2),
        )


class Twice(nn.Module):
    """One layer used twice, so its inputs are tied to its outputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(F.relu(self.conv(x))))


class GatedUnit(nn.Module):
    """One half of a convolution's channels gates the other: channels c and c + C/2 are tied."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 2 * width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.conv(x).chunk(2, dim=1)
        return first * second.sigmoid()


def piece(kind: str, width: int) -> nn.Module:
    return {
        "conv": lambda: nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
        "residual": lambda: Residual(width),
        "dense_block": lambda: DenseBlock(width),
        "depthwise": lambda: Depthwise(width),
        "transposed": lambda: Transposed(width),
        "twice": lambda: Twice(width),
        "norm_only": lambda: nn.Sequential(nn.InstanceNorm2d(width, affine=True), nn.ReLU()),
        "glu": lambda: GatedUnit(width),
    }[kind]()


class RandomNetwork(nn.Module):
    """A trunk of pieces; task a has a convolutional head, task b flattens into linear layers."""

    def __init__(self, kinds: Sequence[str], width: int, seed: int) -> None:
        super().__init__()
        self.tasks = ("a", "b")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(3, width, 3, padding=1)
            self.trunk = nn.Sequential(*(piece(kind, width) for kind in kinds))
            self.heads = nn.ModuleDict(
                {
                    "a": nn.Sequential(nn.Conv2d(width, 5, 3, padding=1), nn.Conv2d(5, 2, 1)),
                    "b": nn.Sequential(
                        nn.AdaptiveAvgPool2d(2),
                        nn.Flatten(),
                        nn.Linear(4 * width, 6),
                        nn.ReLU(),
                        nn.Linear(6, 3),
                        nn.Unflatten(1, (3, 1, 1)),
                    ),
                }
            )

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        features = self.trunk(self.stem(images_BCHW))
        return {task: self.heads[task](features) for task in tasks or self.tasks}

    def owners(self) -> dict[str, str]:
        return {
            name: name.split(".")[1] if name.startswith("heads") else SHARED
            for name, _ in self.named_parameters()
        }


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give normalisation layers weights and statistics that are nowhere 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(generator=generator)
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model
