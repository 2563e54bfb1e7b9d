"""Sluice: mixing, mixture and penalty by hand; separate networks as a special case."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.models.baselines import build, images, single_network
from trainables.errors import UserError
from trainables.models.base import SHARED
from trainables.models.sluice import (
    StageMixture,
    SubspaceMixing,
    subspace_penalty,
)


def test_mixing_by_hand() -> None:
    """Two tasks, one channel in each subspace: α is 4×4, subspaces in the order a1 a2 b1 b2."""
    mixing = SubspaceMixing(2)
    mixing.weight.data = torch.tensor(
        [
            [1.0, 0.0, 0.0, 2.0],  # a1 takes itself and twice b2
            [0.0, 0.0, 1.0, 0.0],  # a2 becomes b1
            [1.0, 1.0, 1.0, 1.0],
            [0.0, -1.0, 0.0, 1.0],
        ]
    )
    first = torch.tensor([1.0, 10.0]).reshape(1, 2, 1, 1)
    second = torch.tensor([100.0, 1000.0]).reshape(1, 2, 1, 1)
    mixed = mixing([first, second])
    assert mixed[0].flatten().tolist() == [2001.0, 100.0]
    assert mixed[1].flatten().tolist() == [1111.0, 990.0]


def test_subspaces_are_halves_of_the_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = SubspaceMixing(3)
    mixing.weight.data = torch.randn(6, 6, generator=generator)
    features = torch.randn(3, 2, 8, 5, 7, generator=generator)  # task, image, channel, …
    # (task, image, half, channel) → the six subspaces first.
    halves = features.reshape(3, 2, 2, 4, 5, 7).transpose(1, 2).reshape(6, 2, 4, 5, 7)
    expected = torch.einsum("ij,jbchw->ibchw", mixing.weight, halves)
    expected = expected.reshape(3, 2, 2, 4, 5, 7).transpose(1, 2).reshape(3, 2, 8, 5, 7)
    torch.testing.assert_close(torch.stack(mixing(list(features))), expected)


@pytest.mark.parametrize("num_tasks", [1, 2, 5])
def test_initial_values(num_tasks: int) -> None:
    weight = SubspaceMixing(num_tasks).weight
    size = 2 * num_tasks
    expected = torch.full((size, size), 0.05 / (size - 1)).fill_diagonal_(0.95)
    torch.testing.assert_close(weight.detach(), expected)
    torch.testing.assert_close(weight.detach().sum(dim=1), torch.ones(size))
    torch.testing.assert_close(
        StageMixture((8, 16, 32)).weight.detach(), torch.tensor([0.05, 0.05, 0.9])
    )
    assert StageMixture((8,)).weight.tolist() == [1.0]


def test_penalty_by_hand() -> None:
    # The filters (1, 2) and (0, 1) against (2, -1) and (3, 0): inner products 0, 3, -1, 0.
    weight = torch.tensor([[1.0, 2.0], [0.0, 1.0], [2.0, -1.0], [3.0, 0.0]])
    assert subspace_penalty(weight.reshape(4, 2, 1, 1)).item() == 10.0
    assert subspace_penalty(weight.reshape(4, 1, 1, 2)).item() == 10.0  # flattened all the same
    # Only across subspaces: parallel filters within one cost nothing.
    apart = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 4.0]])
    assert subspace_penalty(apart.reshape(4, 2, 1, 1)).item() == 0.0


def test_penalty_has_the_gradient_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 2, 2, 1, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(subspace_penalty, (weight,))


def brute_force_penalty(weight: Tensor) -> float:
    half = len(weight) // 2
    return sum(
        float((first * second).sum()) ** 2 for first in weight[:half] for second in weight[half:]
    )


def test_auxiliary_loss_is_the_penalty_of_the_last_convolution_of_every_stage() -> None:
    model = build("sluice", 2)
    loss = model.auxiliary_loss({})
    last = {
        f"backbones.{task}.blocks.{stage}.{block}.conv2.weight"
        for task in model.tasks
        for stage, block in enumerate((0, 1, 0, 0))
    }
    expected = 0.1 * sum(brute_force_penalty(model.get_parameter(name).detach()) for name in last)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == last


def test_the_penalty_drives_subspaces_apart() -> None:
    weight = nn.Parameter(torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0)))
    norm = weight.norm().item()
    optimiser = torch.optim.SGD([weight], lr=4e-3)
    for _ in range(100):
        optimiser.zero_grad()
        subspace_penalty(weight).backward()
        optimiser.step()
    assert subspace_penalty(weight).item() < 1e-3
    # Orthogonality does not need the filters to vanish.
    assert weight.norm().item() > 0.8 * norm


def test_stage_mixture_by_hand() -> None:
    """Half of 3 (the mean of 1, 2, 3, 6) and nine tenths of 5."""
    mixture = StageMixture((1, 1)).eval()
    mixture.weight.data = torch.tensor([0.5, 0.9])
    mixture.projections[0] = nn.Identity()
    earlier = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).reshape(1, 1, 2, 2)
    last = torch.full((1, 1, 1, 1), 5.0)
    assert mixture([earlier, last]).item() == pytest.approx(6.0)


@pytest.mark.parametrize("training", [False, True])
def test_identities_leave_separate_networks(training: bool) -> None:
    model = build("sluice", 3).train(training)
    singles = {t: single_network(t, model, f"backbones.{t}") for t in model.tasks}
    for mixing in model.mixing:
        mixing.weight.data = torch.eye(6)
    for mixture in model.mixtures.values():
        mixture.weight.data = torch.tensor([0.0, 0.0, 0.0, 1.0])
    predictions = model(images())
    for task, single in singles.items():
        assert torch.equal(predictions[task], single(images())[task])


def test_where_a_tasks_gradient_goes() -> None:
    model = build("sluice", 3).train()
    model(images())["normals"].square().sum().backward()
    for name, owner in model.owners().items():
        gradient = model.get_parameter(name).grad
        # Through α all trunks serve all heads.
        reached = owner in (SHARED, "normals") or name.startswith("backbones.")
        assert (gradient is not None) == reached, name


def test_owners() -> None:
    model = build("sluice", 2)
    shared = {name for name, owner in model.owners().items() if owner == SHARED}
    assert shared == {f"mixing.{stage}.weight" for stage in range(4)}
    assert model.owners()["mixtures.normals.projections.2.0.weight"] == "normals"


def test_an_odd_width_has_no_halves() -> None:
    with pytest.raises(UserError, match=r"`model\.width` must be even for sluice, got 9"):
        build("sluice", width=9)
