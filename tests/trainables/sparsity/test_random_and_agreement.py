"""Random masks keep exact counts on any width; agreement among votes by hand."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.sparsity.toys import ToyNetwork, toy_context
from trainables.sparsity.agreement import add_ballots, agreement, count_ballots
from trainables.sparsity.catalogue import METHODS


@given(sparsity=st.integers(0, 999), seed=st.integers(0, 99), width=st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_random_is_exact_on_any_width(sparsity: int, seed: int, width: int) -> None:
    toy = toy_context(ToyNetwork(width=width), seed=seed, sparsity__allocation="erk")
    density = 1 - sparsity / 1000
    toy.registry.update(METHODS["random"].prune(toy.context, density).masks, None)
    assert toy.registry.kept == round(density * toy.registry.total)


def test_agreement_by_hand() -> None:
    owner = {"one": "shared", "none": "shared", "head": "a"}
    votes = {
        "a": {"one": [1, 1, 1, 0, 0], "none": [0, 0], "head": [1]},
        "b": {"one": [0, 1, 1, 1, 0], "none": [0, 0]},
        "c": {"one": [0, 0, 1, 1, 0], "none": [0, 0]},
    }
    masks = {t: {n: torch.tensor(v).bool() for n, v in vote.items()} for t, vote in votes.items()}
    ballots = count_ballots(masks, owner)
    assert ballots == {"one": (1, 4), "none": (0, 0)}
    assert agreement(ballots) == {"one": 1 / 4, "none": 1.0}
    assert agreement(count_ballots(None, owner)) == {}
    assert add_ballots(ballots, {"one": (2, 3), "two": (1, 1)}) == {
        "one": (3, 7),
        "none": (0, 0),
        "two": (1, 1),
    }
