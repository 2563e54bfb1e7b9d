"""The vote on channels and on groups of N:M, by hand, with two tasks.

Channels. x = (1, 2), W = [[1, -2], [3, .5], [-1, 1]], so W x = (-3, 4, 1). Unit i is row i of W
with a_i and b_i. By Σ|g·w| over the weights that a task sees:

    a, t = 1, h = (2, .1, 1):     0: 2 + 8 + 6 = 16 · 2: 1 + 2 + 1 = 4 · 1: .3 + .1 + .4 = .8
    b, t = 10, h = (.2, 1, .5):   1: 30 + 10 + 40 = 80 · 2: 5 + 10 + 5 = 20 · 0: 2 + 8 + 6 = 16

so units 0 1 2 have the ranks 1 3 2 of a and 3 1 2 of b. The joint loss gives 32, 80.8, 24. Each
unit is 4 of 12 parameters.

N:M. Every gradient is a task's own x, a: (4, 3, 2, 1) and b: (1, 2, 3, 4), and W is all ones, so
a ranks the group of four 1 2 3 4 and b ranks it 4 3 2 1.
"""

import pytest
import torch

from tests.worked.networks import (
    AdditiveNetwork,
    example,
    network,
    one_example_each,
    worked_toy,
)
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.masking.channel_units import ChannelUnits

SHARED = [[1.0, -2.0], [3.0, 0.5], [-1.0, 1.0]]
HEADS = {"a": [2.0, 0.1, 1.0], "b": [0.2, 1.0, 0.5]}


def channels(method: str, density: float, **overrides: object) -> tuple[list[int], dict]:  # type: ignore[type-arg]
    model = network(SHARED, HEADS)
    rows = torch.arange(3)
    units = ChannelUnits(
        axes={"shared.weight": {0: rows}, "heads.a.weight": {1: rows}, "heads.b.weight": {1: rows}},
        rows={"shared.weight": 0},
        group=torch.zeros(3, dtype=torch.int64),
        groups=("shared",),
        shapes={name: tuple(p.shape) for name, p in model.named_parameters()},
        left_dense={},
    )
    toy = worked_toy(
        model,
        [example([1, 2], {"a": 1.0, "b": 10.0})],
        units=units,
        sparsity__structure="channel",
        sparsity__target=0.0,
        **overrides,
    )
    proposal = METHODS[method].prune(toy.context, density)
    toy.registry.update(proposal.masks, None, proposal.votes)
    votes = {
        task: vote["shared.weight"].any(dim=1).nonzero().reshape(-1).tolist()
        for task, vote in (proposal.votes or {}).items()
    }
    return units.kept(toy.registry.keep()).nonzero().reshape(-1).tolist(), votes


@pytest.mark.parametrize(
    ("arbiter", "density", "kept"),
    [
        # A unit enters with its first vote: 0 and 1 with rank 1, 2 with rank 2.
        ("unanimous", 8 / 12, [0, 1]),
        ("unanimous", 11 / 12, [0, 1]),  # met from below: the third would take 12
        ("unanimous", 1.0, [0, 1, 2]),
        # It enters with its last vote: 2 with rank 2, the others with rank 3.
        ("intersection", 4 / 12, [2]),
    ],
)
def test_the_tasks_vote_on_channels(arbiter: str, density: float, kept: list[int]) -> None:
    found, _ = channels("disparse-static", density, sparsity__arbiter=arbiter)
    assert found == kept


def test_the_votes_on_channels_are_each_tasks_own_top() -> None:
    assert channels("disparse-static", 8 / 12)[1] == {"a": [0], "b": [1]}


def test_the_joint_loss_ranks_channels_otherwise() -> None:
    assert channels("snip", 4 / 12)[0] == [1]
    assert channels("snip", 8 / 12)[0] == [0, 1]


def test_norms_and_taylor() -> None:
    """Mean |w|: (1+2+2+.2)/4, (3+.5+.1+1)/4, (1+1+1+.5)/4 = 1.3, 1.15, .875.

    Mean w²: (1+4+4+.04)/4, (9+.25+.01+1)/4 = 2.26, 2.565: unit 1 is first.
    (Σ g·w)²: 0: (4 - 16 - 6 - 6)² · 1: (30.3 + 10.1 + .4 + 40)² · 2: (-6 + 12 + 1 + 5)².
    """
    assert channels("channel-l1", 4 / 12)[0] == [0]
    assert channels("channel-l2", 4 / 12)[0] == [1]
    assert channels("channel-taylor", 4 / 12)[0] == [1]
    assert channels("channel-taylor", 8 / 12)[0] == [0, 1]


@pytest.mark.parametrize(
    ("arbiter", "shared"),
    [
        ("unanimous", [0, 3]),  # the best of each
        ("intersection", [1, 2]),  # those that both rank third at worst
    ],
)
def test_the_tasks_vote_within_a_group(arbiter: str, shared: list[int]) -> None:
    toy = worked_toy(
        AdditiveNetwork([1, 1, 1, 1], {"a": [1, 3, 1, 5], "b": [5, 1, 1, 1]}),
        [one_example_each({"a": [4, 3, 2, 1], "b": [1, 2, 3, 4]})],
        sparsity__structure="2:4",
        sparsity__target=0.5,
        sparsity__arbiter=arbiter,
    )
    proposal = METHODS["disparse-static"].prune(toy.context, 0.5)
    kept = {n: keep[0].nonzero().reshape(-1).tolist() for n, keep in proposal.masks.items()}
    # a's head by |x·w|: 4 9 2 5; b's: 5 2 3 4.
    assert kept == {"shared.weight": shared, "heads.a.weight": [1, 3], "heads.b.weight": [0, 3]}
    votes = {
        t: v["shared.weight"][0].nonzero().reshape(-1).tolist() for t, v in proposal.votes.items()
    }
    assert votes == (
        {"a": [0], "b": [3]} if arbiter == "unanimous" else {"a": [0, 1, 2], "b": [1, 2, 3]}
    )
