"""DiSparse static by hand: every arbiter, with two tasks and with three (Sun et al. 2022).

x = (1, 2), W = [[1, -2], [3, .5]], so W x = (-3, 4). By |g·w| each task ranks the weights it sees:

    a, t = 1, h = (2, .1):    W01 8 · a0 6 · W00 2 · a1 .4 · W10 .3 · W11 .1
    b, t = 10, h = (.2, 1):   b1 40 · W10 30 · W11 10 · W01 8 · b0 6 · W00 2
    c, t = 1, h = (.5, 3):    c1 12 · W10 9 · W11 3 · W01 2 · c0 1.5 · W00 .5

Every task sees six weights, so a weight of rank r enters its vote at ρ = r/6; in sixths:

             W00    W01    W10    W11  | a0 a1 | b0 b1 | c0 c1
    a, b     3 6    1 4    5 2    6 3  |  2  4 |  5  1 |
    a, b, c  3 6 6  1 4 4  5 2 2  6 3 3|  2  4 |  5  1 |  5  1
"""

import pytest

from tests.worked.networks import example, names_of, network, worked_toy
from trainables.sparsity.catalogue import METHODS

SHARED = [[1.0, -2.0], [3.0, 0.5]]
HEADS = {"a": [2.0, 0.1], "b": [0.2, 1.0], "c": [0.5, 3.0]}
TARGETS = {"a": 1.0, "b": 10.0, "c": 1.0}


@pytest.mark.parametrize(
    ("arbiter", "count", "kept"),
    [
        # Pruned only if all prune: a shared weight enters with its first vote.
        # 1: W01 b1 · 2: W10 a0 · 3: W00 W11 · 4: a1 · 5: b0
        ("unanimous", 2, {"W01", "b1"}),
        ("unanimous", 4, {"W01", "b1", "W10", "a0"}),
        ("unanimous", 6, {"W01", "b1", "W10", "a0", "W00", "W11"}),
        ("unanimous", 7, {"W01", "b1", "W10", "a0", "W00", "W11", "a1"}),
        # Pruned if more than half prune; of two, one keep is a tie and keeps.
        ("majority", 4, {"W01", "b1", "W10", "a0"}),
        # Kept only if all keep: it enters with its last vote.
        # 1: b1 · 2: a0 · 4: W01 a1 · 5: W10 b0 · 6: W00 W11
        ("intersection", 1, {"b1"}),
        ("intersection", 2, {"b1", "a0"}),
        ("intersection", 4, {"b1", "a0", "W01", "a1"}),
        ("intersection", 6, {"b1", "a0", "W01", "a1", "W10", "b0"}),
    ],
)
def test_two_tasks(arbiter: str, count: int, kept: set[str]) -> None:
    toy = worked_toy(
        network(SHARED, {k: HEADS[k] for k in "ab"}),
        [example([1, 2], TARGETS)],
        sparsity__arbiter=arbiter,
    )
    assert names_of(METHODS["disparse-static"].prune(toy.context, count / 8).masks) == kept


@pytest.mark.parametrize(
    ("arbiter", "kept"),
    [
        # 1: W01 b1 c1 · 2: W10 a0
        ("unanimous", {"W01", "b1", "c1", "W10", "a0"}),
        # Two votes of three: W00 6 · W01 4 · W10 2 · W11 3. 1: b1 c1 · 2: W10 a0 · 3: W11
        ("majority", {"b1", "c1", "W10", "a0", "W11"}),
        # 1: b1 c1 · 2: a0 · 4: W01 a1
        ("intersection", {"b1", "c1", "a0", "W01", "a1"}),
    ],
)
def test_three_tasks_where_the_arbiters_part(arbiter: str, kept: set[str]) -> None:
    toy = worked_toy(network(SHARED, HEADS), [example([1, 2], TARGETS)], sparsity__arbiter=arbiter)
    assert names_of(METHODS["disparse-static"].prune(toy.context, 5 / 10).masks) == kept


def test_the_votes_are_each_tasks_own_top_at_the_solved_rho() -> None:
    toy = worked_toy(network(SHARED, {k: HEADS[k] for k in "ab"}), [example([1, 2], TARGETS)])
    votes = METHODS["disparse-static"].prune(toy.context, 4 / 8).votes
    assert votes is not None
    assert names_of(votes["a"]) == {"W01", "a0"}  # ρ = 2/6
    assert names_of(votes["b"]) == {"b1", "W10"}


def test_saliency_is_absolute_in_each_batch() -> None:
    # x = (1, 2) and (2, -1): W x = (-3, 4) and (4, 5.5). Σ|x| = (3, 3), Σ|W x| = (7, 9.5).
    #   a: a0 14 · W01 12 · W00 6 · a1 .95 · W10 .9 · W11 .15
    #   b: b1 95 · W10 90 · W11 15 · b0 14 · W01 12 · W00 6
    # Signed sums would be Σ x = (3, 1), Σ W x = (1, 9.5) and put W00 (6) first for a.
    toy = worked_toy(
        network(SHARED, {k: HEADS[k] for k in "ab"}),
        [example([1, 2], TARGETS), example([2, -1], TARGETS)],
    )
    method = METHODS["disparse-static"]
    assert names_of(method.prune(toy.context, 2 / 8).masks) == {"a0", "b1"}
    assert names_of(method.prune(toy.context, 4 / 8).masks) == {"a0", "b1", "W01", "W10"}


def test_a_per_layer_allocation_settles_within_each_layer() -> None:
    # Half of each layer. Within W: a W01 W00 W10 W11, b W10 W11 W01 W00 → first votes W01 and W10.
    toy = worked_toy(
        network(SHARED, {k: HEADS[k] for k in "ab"}),
        [example([1, 2], TARGETS)],
        sparsity__allocation="uniform",
    )
    masks = METHODS["disparse-static"].prune(toy.context, 4 / 8).masks
    assert names_of(masks) == {"W01", "W10", "a0", "b1"}
