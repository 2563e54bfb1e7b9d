"""DiSparse pretrained by hand: each score with each arbiter, on weights taken as trained.

x = (1, 2), W = [[1, -2], [3, .5]], W x = (-3, 4); a: t = 1, h = (2.5, .1); b: t = 10, h =
(.2, 1.5).

    taylor, |g·w|        a: W01 10 · a0 7.5 · W00 2.5 · a1 .4 · W10 .3 · W11 .1
                         b: b1 60 · W10 45 · W11 15 · W01 8 · b0 6 · W00 2
    published, |g|·w²    a: W01 20 · a0 18.75 · W00 2.5 · W10 .9 · W11 .05 · a1 .04
                         b: W10 135 · b1 90 · W01 16 · W11 7.5 · W00 2 · b0 1.2
    magnitude, |w|       a: W10 3 · a0 2.5 · W01 2 · W00 1 · W11 .5 · a1 .1
                         b: W10 3 · W01 2 · b1 1.5 · W00 1 · W11 .5 · b0 .2
"""

import pytest
import torch

from tests.worked.networks import example, names_of, network, worked_toy
from trainables.sparsity.catalogue import METHODS

MODEL = ([[1.0, -2.0], [3.0, 0.5]], {"a": [2.5, 0.1], "b": [0.2, 1.5]})
BATCH = example([1, 2], {"a": 1.0, "b": 10.0})


@pytest.mark.parametrize(
    ("score", "arbiter", "count", "kept"),
    [
        # taylor, in sixths: W00 3 6 · W01 1 4 · W10 5 2 · W11 6 3 · a0 2 · a1 4 · b0 5 · b1 1
        ("taylor", "unanimous", 4, {"W01", "b1", "W10", "a0"}),
        ("taylor", "majority", 4, {"W01", "b1", "W10", "a0"}),
        ("taylor", "intersection", 4, {"b1", "a0", "W01", "a1"}),
        # published: W00 3 5 · W01 1 3 · W10 4 1 · W11 5 4 · a0 2 · a1 6 · b0 6 · b1 2
        ("published", "unanimous", 2, {"W01", "W10"}),
        ("published", "unanimous", 5, {"W01", "W10", "a0", "b1", "W00"}),
        ("published", "majority", 5, {"W01", "W10", "a0", "b1", "W00"}),
        ("published", "intersection", 3, {"a0", "b1", "W01"}),
        ("published", "intersection", 4, {"a0", "b1", "W01", "W10"}),
        # magnitude: W00 4 4 · W01 3 2 · W10 1 1 · W11 5 5 · a0 2 · a1 6 · b0 6 · b1 3
        ("magnitude", "unanimous", 3, {"W10", "W01", "a0"}),
        ("magnitude", "unanimous", 4, {"W10", "W01", "a0", "b1"}),
        ("magnitude", "majority", 3, {"W10", "W01", "a0"}),
        ("magnitude", "intersection", 2, {"W10", "a0"}),
        ("magnitude", "intersection", 5, {"W10", "a0", "W01", "b1", "W00"}),
    ],
)
def test_scores_and_arbiters(score: str, arbiter: str, count: int, kept: set[str]) -> None:
    toy = worked_toy(network(*MODEL), [BATCH], sparsity__score=score, sparsity__arbiter=arbiter)
    proposal = METHODS["disparse-pretrained"].prune(toy.context, count / 8)
    assert names_of(proposal.masks) == kept


def test_three_tasks_where_the_majority_is_neither_of_the_others() -> None:
    # A third task, t = 1, h = (.5, 3), by |g|·w²: c1 36 · W10 27 · W01 4 · W11 1.5 · c0 .75 ·
    # W00 .5, so in sixths W00 3 5 6 · W01 1 3 3 · W10 4 1 2 · W11 5 4 4, and c0 5 · c1 1.
    #   first votes   1: W01 W10 c1 · 2: a0 b1 · 3: W00
    #   second votes  1: c1 · 2: W10 a0 b1 · 3: W01 · 4: W11
    #   last votes    1: c1 · 2: a0 b1 · 3: W01 · 4: W10
    heads = {**MODEL[1], "c": [0.5, 3.0]}
    batch = example([1, 2], {"a": 1.0, "b": 10.0, "c": 1.0})
    for arbiter, count, kept in (
        ("unanimous", 3, {"W01", "W10", "c1"}),
        ("majority", 4, {"c1", "W10", "a0", "b1"}),
        ("intersection", 4, {"c1", "a0", "b1", "W01"}),
        ("unanimous", 6, {"W01", "W10", "c1", "a0", "b1", "W00"}),
        ("majority", 6, {"c1", "W10", "a0", "b1", "W01", "W11"}),
    ):
        toy = worked_toy(
            network(MODEL[0], heads), [batch], sparsity__score="published",
            sparsity__arbiter=arbiter,
        )  # fmt: skip
        proposal = METHODS["disparse-pretrained"].prune(toy.context, count / 10)
        assert names_of(proposal.masks) == kept, arbiter


def test_a_trained_network_is_scored_on_its_own_weights() -> None:
    # "xavier" is a choice for untrained networks: here it changes nothing.
    toy = worked_toy(network(*MODEL), [BATCH], sparsity__saliency_weights="xavier")
    proposal = METHODS["disparse-pretrained"].prune(toy.context, 4 / 8)
    assert names_of(proposal.masks) == {"W01", "b1", "W10", "a0"}


def test_magnitude_cannot_tell_tasks_apart_within_a_layer() -> None:
    toy = worked_toy(network(*MODEL), sparsity__score="magnitude", sparsity__allocation="uniform")
    proposal = METHODS["disparse-pretrained"].prune(toy.context, 4 / 8)
    assert names_of(proposal.masks) == {"W10", "W01", "a0", "b1"}
    assert proposal.votes is not None
    assert torch.equal(proposal.votes["a"]["shared.weight"], proposal.votes["b"]["shared.weight"])
