"""The exact union by hand: ρ solved for a count, and the boundary settled weight by weight.

Six shared and private weights are ranked by tasks of unequal size, so their votes change at
different ρ. Scores are written so that a weight's score falls with its rank.

    a sees s0 s1 s2 a0, n = 4:         s0 a0 s1 s2         enter at 1/4 2/4 3/4 4/4
    b sees s0 s1 s2 b0 b1 b2, n = 6:   b0 s2 b1 s0 s1 b2   enter at 1/6 2/6 3/6 4/6 5/6 6/6

    ρ in twelfths       2       3          4             6                  8    9
    a keeps             -       s0         s0            s0 a0              …    s0 a0 s1
    b keeps             b0      b0         b0 s2         b0 s2 b1           …    b0 s2 b1 s0
    union               b0      b0 s0      b0 s0 s2      b0 s0 s2 a0 b1     …    b0 s0 s2 a0 b1 s1
"""

from fractions import Fraction
from itertools import product

import pytest
import torch

from trainables.models.base import SHARED
from trainables.sparsity.selection import TieOrder
from trainables.sparsity.structures.voting import settle

OWNER = {"s": SHARED, "a": "a", "b": "b"}
SCORES = {
    "a": {"s": torch.tensor([4.0, 2, 1]), "a": torch.tensor([3.0])},
    "b": {"s": torch.tensor([3.0, 2, 5]), "b": torch.tensor([6.0, 4, 1])},
}
WITHIN = {"s": torch.ones(3).bool(), "a": torch.ones(1).bool(), "b": torch.ones(3).bool()}
ORDER = {"a": ["s0", "a0", "s1", "s2"], "b": ["b0", "s2", "b1", "s0", "s1", "b2"]}


def keep_by_name(count: int, arbiter: str, seed: int = 0) -> set[str]:
    ties = TieOrder.drawn(torch.Generator().manual_seed(seed))
    masks = settle(list(OWNER), SCORES, WITHIN, count, arbiter, ties).masks
    return {f"{n}{i}" for n, m in masks.items() for i in m.nonzero().flatten().tolist()}


@pytest.mark.parametrize(
    ("arbiter", "count", "certain", "boundary"),
    [
        ("unanimous", 0, set(), set()),
        ("unanimous", 1, {"b0"}, set()),  # ρ = 2/12
        ("unanimous", 2, {"b0", "s0"}, set()),  # 3/12
        ("unanimous", 3, {"b0", "s0", "s2"}, set()),  # 4/12
        ("unanimous", 4, {"b0", "s0", "s2"}, {"a0", "b1"}),  # 6/12: two enter, one has room
        ("unanimous", 5, {"b0", "s0", "s2", "a0", "b1"}, set()),
        ("unanimous", 6, {"b0", "s0", "s2", "a0", "b1", "s1"}, set()),  # 9/12
        ("unanimous", 7, {"b0", "s0", "s2", "a0", "b1", "s1", "b2"}, set()),  # 12/12
        # Both must keep: s0 at 8/12, s1 at 10/12, s2 at 12/12.
        ("intersection", 1, {"b0"}, set()),
        ("intersection", 2, {"b0"}, {"a0", "b1"}),  # 6/12
        ("intersection", 4, {"b0", "a0", "b1", "s0"}, set()),
        ("intersection", 5, {"b0", "a0", "b1", "s0", "s1"}, set()),
        ("intersection", 6, {"b0", "a0", "b1", "s0", "s1"}, {"s2", "b2"}),  # 12/12
    ],
)
def test_every_count(arbiter: str, count: int, certain: set[str], boundary: set[str]) -> None:
    seen: set[str] = set()
    for seed in range(8):
        found = keep_by_name(count, arbiter, seed)
        assert len(found) == count
        assert certain <= found <= certain | boundary
        seen |= found
    # Which of the boundary wins is the seed's choice, and either does.
    assert seen == certain | boundary


@pytest.mark.parametrize(("arbiter", "votes"), [("unanimous", 1), ("intersection", 2)])
def test_every_count_lies_between_two_neighbouring_rhos(arbiter: str, votes: int) -> None:
    """Brute force: the definition at every ρ at which anything can change."""
    levels = []
    for rho in sorted({Fraction(r, n) for n in (4, 6) for r in range(n + 1)}):
        ballots = [order[: int(rho * len(order))] for order in ORDER.values()]
        need = {name: votes if name.startswith("s") else 1 for order in ballots for name in order}
        levels.append({n for n in need if sum(n in b for b in ballots) >= need[n]})
    for count, below in product(range(8), range(len(levels) - 1)):
        if len(levels[below]) <= count <= len(levels[below + 1]):
            assert levels[below] <= keep_by_name(count, arbiter) <= levels[below + 1]
    assert {len(level) for level in levels} >= {0, 1, 5, 7}


# Two tasks of equal size, n = 6, four weights shared and two each of their own.
#   a: s0 s1 a0 s2 a1 s3      b: s3 b0 s1 b1 s2 s0
EQUAL = {
    "a": {"s": torch.tensor([9.0, 8, 3, 1]), "a": torch.tensor([7.0, 2])},
    "b": {"s": torch.tensor([1.0, 7, 5, 9]), "b": torch.tensor([8.0, 6])},
}


@pytest.mark.parametrize(
    ("arbiter", "count", "certain", "boundary"),
    [
        # In sixths, first votes: s0 1 · s1 2 · s2 4 · s3 1 · a0 3 · a1 5 · b0 2 · b1 4
        ("unanimous", 2, {"s0", "s3"}, set()),
        ("unanimous", 3, {"s0", "s3"}, {"s1", "b0"}),
        ("unanimous", 4, {"s0", "s3", "s1", "b0"}, set()),
        ("unanimous", 6, {"s0", "s3", "s1", "b0", "a0"}, {"s2", "b1"}),
        ("majority", 4, {"s0", "s3", "s1", "b0"}, set()),  # of two tasks: a tie keeps
        # last votes: s0 6 · s1 3 · s2 5 · s3 6
        ("intersection", 1, {"b0"}, set()),
        ("intersection", 3, {"b0", "s1", "a0"}, set()),
        ("intersection", 5, {"b0", "s1", "a0", "b1"}, {"s2", "a1"}),
        ("intersection", 8, {"s0", "s1", "s2", "s3", "a0", "a1", "b0", "b1"}, set()),
    ],
)
def test_tasks_of_equal_size(
    arbiter: str, count: int, certain: set[str], boundary: set[str]
) -> None:
    within = {"s": torch.ones(4).bool(), "a": torch.ones(2).bool(), "b": torch.ones(2).bool()}
    ties = TieOrder.drawn(torch.Generator().manual_seed(0))
    proposal = settle(list(OWNER), EQUAL, within, count, arbiter, ties)
    found = {f"{n}{i}" for n, m in proposal.masks.items() for i in m.nonzero().flatten().tolist()}
    assert len(found) == count
    assert certain <= found <= certain | boundary


def test_private_weights_are_cut_at_the_same_fraction() -> None:
    # Half of 2 and half of 10: entries 1/2 2/2 and 1/10 … 10/10.
    scores = {"a": {"a": torch.arange(2.0)}, "b": {"b": torch.arange(10.0)}}
    within = {"a": torch.ones(2).bool(), "b": torch.ones(10).bool()}
    ties = TieOrder.drawn(torch.Generator().manual_seed(0))
    masks = settle(["a", "b"], scores, within, 6, "unanimous", ties).masks
    assert masks["a"].tolist() == [False, True]
    assert masks["b"].tolist() == [False] * 5 + [True] * 5
