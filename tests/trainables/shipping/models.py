"""Models to ship that nobody trained."""

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.models.catalogue import build_model
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.training.export import TrainedModel

CHANNELS = {"segmentation": 12, "depth": 1}


def untrained(
    config: TrialConfig, *, density: float = 0.1, seed: int = 0, model: nn.Module | None = None
) -> TrainedModel:
    """A network with random weights, masks and statistics of normalisation, in evaluation mode."""
    draws = torch.Generator().manual_seed(seed)
    if model is None:
        model = build_model(config.model, CHANNELS, seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, generator=draws)  # else a sparse head may be dead
        if isinstance(module, nn.BatchNorm2d):
            assert isinstance(module.running_mean, Tensor)
            assert isinstance(module.running_var, Tensor)
            module.running_mean.normal_(generator=draws)
            module.running_var.uniform_(0.5, 2, generator=draws)
            nn.init.uniform_(module.weight, 0.5, 2, generator=draws)
            nn.init.normal_(module.bias, generator=draws)
    registry = MaskRegistry(model)
    registry.update(
        {n: torch.rand(w.shape, generator=draws) < density for n, w in registry.parameters.items()},
        None,
    )
    return TrainedModel(
        model=model.eval(),
        registry=registry,
        config=config,
        num_channels=CHANNELS,
        image_mean=(0.45, 0.42, 0.38),
        image_std=(0.18, 0.178, 0.174),
    )


def images(count: int = 2, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, generator=draws)


class Own(nn.Module):
    """A user's network: the contract, and no more."""

    def __init__(self, config: object, num_channels: dict[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_channels)
        self.trunk = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.heads = nn.ModuleDict({t: nn.Conv2d(8, c, 1) for t, c in num_channels.items()})

    def features(self, images: Tensor) -> Tensor:
        return torch.relu(self.norm(self.trunk(images)))

    def forward(self, images: Tensor, tasks: object = None) -> dict[str, Tensor]:
        # Not in the order of `tasks`: the exported outputs must be.
        features = self.features(images)
        return {t: self.heads[t](features) for t in reversed(tasks or self.tasks)}  # type: ignore[call-overload]

    def owners(self) -> dict[str, str]:
        return {
            name: name.split(".")[1] if name.startswith("heads") else "shared"
            for name, _ in self.named_parameters()
        }


class Branching(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features * 2 if features.sum() > 0 else features


class Untraceable(Own):
    """Branches on a value, in a module with a name."""

    def __init__(self, config: object, num_channels: dict[str, int]) -> None:
        super().__init__(config, num_channels)
        self.gate = Branching()

    def features(self, images: Tensor) -> Tensor:
        return self.gate(super().features(images))


class Bessel(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return torch.special.bessel_j0(features)


class WithoutOperator(Own):
    """Uses an operation that ONNX does not have."""

    def __init__(self, config: object, num_channels: dict[str, int]) -> None:
        super().__init__(config, num_channels)
        self.odd = Bessel()

    def features(self, images: Tensor) -> Tensor:
        return self.odd(super().features(images))


class Tied(Own):
    """Two names for one weight."""

    def __init__(self, config: object, num_channels: dict[str, int]) -> None:
        super().__init__(config, num_channels)
        self.first, self.second = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.second.weight = self.first.weight

    def features(self, images: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(super().features(images))))
