"""The compact model computes what the masked one does; normalisation is folded where it can be."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.shipping.conftest import Config
from tests.trainables.shipping.models import Own, images, untrained
from trainables.shipping.compact import compact, fold_normalisation


def close(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for task, expected in left.items():
        difference = (right[task] - expected).abs().max() / expected.abs().max()
        assert difference <= 1e-5, task


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_folding_keeps_the_outputs(config: Config, seed: int) -> None:
    before = untrained(config("dense"), density=0.5, seed=seed)
    state = copy.deepcopy(before.model.state_dict())
    small = compact(before.model, before.registry)
    norms = [m for m in before.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert small.unfolded_because is None
    assert small.num_folded == len(norms) > 0
    assert not any(isinstance(m, nn.BatchNorm2d) for m in small.model.modules())
    assert small.num_parameters == sum(p.numel() for p in before.model.parameters())
    close(before.model(images(seed=seed)), small.model(images(seed=seed)))
    for key, value in before.model.state_dict().items():
        assert torch.equal(value, state[key]), "the model itself must not change"


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("cross-stitch", "CrossStitchNetwork"),
        ("sluice", "SluiceNetwork"),
        ("den", "ElasticNetwork"),
    ],
)
@torch.no_grad()
def test_a_network_that_cannot_be_traced_stays_as_it_is_and_says_so(
    config: Config, name: str, network: str
) -> None:
    before = untrained(config("dense", model__name=name), density=0.5)
    small = compact(before.model, before.registry)
    assert small.num_folded == 0
    assert f"torch.fx cannot trace {network}" in str(small.unfolded_because)
    close(before.model(images()), small.model(images()))


class Twice(Own):
    """Reads the convolution's output a second time, so that nothing may be folded into it."""

    def features(self, images: Tensor) -> Tensor:
        raw = self.trunk(images)
        return torch.relu(self.norm(raw)) + raw


class Reused(Own):
    def features(self, images: Tensor) -> Tensor:
        return self.norm(self.trunk(images)) + self.norm(self.trunk(-images))


class ReadByHand(Own):
    def features(self, images: Tensor) -> Tensor:
        return self.norm(self.trunk(images)) * self.norm.weight.mean()


class WithoutStatistics(Own):
    def __init__(self, config: object, num_channels: dict[str, int]) -> None:
        super().__init__(config, num_channels)
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)


@pytest.mark.parametrize("network", [Twice, Reused, ReadByHand, WithoutStatistics])
@torch.no_grad()
def test_what_must_not_be_folded_is_not(network: type[Own]) -> None:
    model = network(None, {"depth": 1}).eval()
    nn.init.normal_(model.norm.weight)
    expected = model(images())
    small = fold_normalisation(model)
    assert (small.num_folded, small.unfolded_because) == (0, None)
    close(expected, small.model(images()))


@torch.no_grad()
def test_a_users_network_is_folded_and_keeps_its_class() -> None:
    model = Own(None, {"depth": 1}).eval()
    nn.init.normal_(model.norm.bias)
    expected = model(images())
    small = fold_normalisation(model)
    assert small.num_folded == 1
    assert isinstance(small.model, Own)
    close(expected, small.model(images()))
