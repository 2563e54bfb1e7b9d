"""SNIP and RigL worked by hand on a network whose gradients can be read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.sparsity.toys import LinearNetwork, SumTask, Toy, ToyNetwork, toy_context
from trainables.data.batch import Batch
from trainables.sparsity.agreement import add_ballots, agreement, count_ballots
from trainables.sparsity.catalogue import METHODS

HEADS = {"a": torch.tensor([[2.0, 0.1]]), "b": torch.tensor([[0.2, 1.0]])}


def batch(x: list[float], a: float, b: float) -> Batch:
    return Batch(
        images_BCHW=torch.tensor(x, dtype=torch.float32).reshape(1, -1, 1, 1),
        targets={"a": torch.full((1, 1), a), "b": torch.full((1, 1), b)},
    )


def test_snip_by_hand_lets_batches_cancel() -> None:
    # y_k = h_k · (W x), L = Σ_k t_k y_k, so ∂L/∂W = (Σ_k t_k h_k) xᵀ and ∂L/∂h_k = t_k W x.
    toy = toy_context(
        LinearNetwork(torch.tensor([[1.0, -2.0], [3.0, 0.5]]), HEADS),
        batches=[batch([1, 2], 1, 10), batch([1, -2], 1, 10)],
        task_type=SumTask,
        sparsity__saliency_batches=2,
    )
    # Σ x = (2, 0): the second column of W cancels. Σ_k t_k h_k = (4, 10.1).
    #   |g·w| of W: [[8, 0], [60.6, 0]]; Σ W x = (2, 6): head a [4, .6], head b [4, 60].
    masks = METHODS["snip"].prune(toy.context, 3 / 8).masks
    assert masks["shared.weight"].tolist() == [[True, False], [True, False]]
    assert masks["heads.a.weight"].tolist() == [[False, False]]
    assert masks["heads.b.weight"].tolist() == [[False, True]]


def rigl_toy() -> Toy:
    toy = toy_context(
        LinearNetwork(
            torch.tensor([[8.0, -7, 6, -5, 0, 0, 0, 0]]),
            {"a": torch.ones(1, 1), "b": torch.ones(1, 1)},
        ),
        task_type=SumTask,
    )
    keep = toy.registry.keep()
    keep["shared.weight"][0, 4:] = False
    toy.registry.update(keep, None)
    return toy


@pytest.mark.parametrize(
    ("x", "fraction", "kept"),
    [
        # drop ⌊.5 · 4⌋ = 2 smallest |w| (places 3 and 2), grow the 2 largest |Σ_k t_k x|
        ([9, 9, 1, 2, -7, 3, 4, 5], 0.5, [0, 1, 4, 7]),
        ([0, 0, 9, 2, -7, 3, 4, 5], 0.5, [0, 1, 2, 4]),  # place 2 dropped and regrown
        ([0, 0, 1, 2, -7, 3, 4, 5], 0.3, [0, 1, 2, 4]),  # ⌊.3 · 4⌋ = 1
        ([0, 0, 1, 2, -7, 3, 4, 5], 0.0, [0, 1, 2, 3]),
        ([0, 0, 1, 2, -7, 3, 4, 5], 1.0, [4, 5, 6, 7]),
    ],
)
def test_rigl_by_hand(x: list[float], fraction: float, kept: list[int]) -> None:
    toy = rigl_toy()
    weights = toy.registry.parameters["shared.weight"].detach().clone()[0]
    masks = METHODS["rigl"].regrow(toy.context, batch(x, 1, 1), fraction, 0.6).masks
    assert masks["shared.weight"][0].nonzero().flatten().tolist() == kept
    toy.registry.update(masks, None)
    now = toy.registry.parameters["shared.weight"][0]
    assert all(now[i] == weights[i] for i in kept)  # old places keep their value, new start at 0


def test_rigl_grows_on_the_joint_gradient() -> None:
    toy = rigl_toy()
    both = Batch(
        images_BCHW=torch.tensor([[0.0, 0, 0, 0, 9, 3, 1, 0], [0.0, 0, 0, 0, -9, 3, 2, 0]]).reshape(
            2, 8, 1, 1
        ),
        targets={"a": torch.tensor([[1.0], [0.0]]), "b": torch.tensor([[0.0], [1.0]])},
    )
    # Place 4 matters most to either task, but they pull against each other: Σ = 0.
    masks = METHODS["rigl"].regrow(toy.context, both, 0.5, 0.6).masks
    assert masks["shared.weight"][0].nonzero().flatten().tolist() == [0, 1, 5, 6]
    masks = METHODS["disparse-dynamic"].regrow(toy.context, both, 0.5, 0.6).masks
    assert bool(masks["shared.weight"][0, 4])  # which is what DiSparse is about


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
