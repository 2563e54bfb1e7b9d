"""SNIP by hand: 8 weights, 2 tasks, 2 batches (Lee et al. 2019, eq. 5, on the joint loss)."""

import pytest

from tests.worked.networks import example, names_of, network, worked_toy
from trainables.sparsity.catalogue import METHODS

TARGETS = {"a": 1.0, "b": 10.0}


@pytest.mark.parametrize(
    ("density", "kept"),
    [
        (1 / 8, {"W10"}),
        (2 / 8, {"W10", "b1"}),
        (3 / 8, {"W10", "b1", "W00"}),
    ],
)
def test_batches_cancel_before_the_absolute_value(density: float, kept: set[str]) -> None:
    # L = Σ_k t_k y_k, so ∂L/∂W = (Σ_k t_k h_k) xᵀ and Σ_k t_k h_k = 1·(2, .1) + 10·(.2, 1)
    # = (4, 10.1). Over x = (1, 2) and (1, -2): Σ x = (2, 0), the second column cancels;
    # Σ W x = (-3, 4) + (5, 2) = (2, 6).
    #   W00 4·2·1 = 8 · W01 0 · W10 10.1·2·3 = 60.6 · W11 0
    #   a0 2·2 = 4 · a1 6·.1 = .6 · b0 10·2·.2 = 4 · b1 10·6·1 = 60
    model = network([[1, -2], [3, 0.5]], {"a": [2, 0.1], "b": [0.2, 1]})
    toy = worked_toy(model, [example([1, 2], TARGETS), example([1, -2], TARGETS)])
    assert names_of(METHODS["snip"].prune(toy.context, density).masks) == kept


def test_tasks_that_pull_against_each_other_cancel_too() -> None:
    # x = (1, 1), t = (1, -1), h_a = h_b = (1, 1): ∂L/∂W = 0 although each task's is 1.
    #   W x = (3, 1): a0 3 · a1 1 · b0 3 · b1 1 · every W 0
    model = network([[2, 1], [0.5, 0.5]], {"a": [1, 1], "b": [1, 1]})
    batches = [example([1, 1], {"a": 1.0, "b": -1.0})]
    toy = worked_toy(model, batches)
    assert names_of(METHODS["snip"].prune(toy.context, 4 / 8).masks) == {"a0", "a1", "b0", "b1"}
    # Task alone: n = 6. a: a0 3 · W00 2 · W01 1, a1 1 · W10 W11 .5, and b the same.
    # DiSparse at 3 of 8 keeps a0 and b0 (ρ = 1/6), then W00 (2/6), which SNIP throws away.
    toy = worked_toy(model, batches)
    masks = METHODS["disparse-static"].prune(toy.context, 3 / 8).masks
    assert names_of(masks) == {"a0", "b0", "W00"}
