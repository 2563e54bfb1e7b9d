"""RigL's drop and grow by hand (Evci et al. 2020, Algorithm 1): one layer of 8, 2 tasks.

8 -7 6 -5 stand at places 0–3; heads are 1×1 and 1, so the joint loss's gradient is Σ_k t_k x.
"""

import pytest

from tests.trainables.sparsity.toys import Toy
from tests.worked.networks import example, network, one_example_each, row_of, worked_toy
from trainables.sparsity.catalogue import METHODS


def rigl_toy() -> Toy:
    toy = worked_toy(network([[8, -7, 6, -5, 0, 0, 0, 0]], {"a": [1], "b": [1]}))
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
        ([0, 0, 1, 2, -7, 3, 4, 5], 0.4, [0, 1, 2, 4]),  # ⌊.4 · 4⌋ = ⌊1.6⌋ = 1
        ([0, 0, 1, 2, -7, 3, 4, 5], 0.0, [0, 1, 2, 3]),
        ([0, 0, 1, 2, -7, 3, 4, 5], 1.0, [4, 5, 6, 7]),
    ],
)
def test_drop_and_grow(x: list[float], fraction: float, kept: list[int]) -> None:
    toy = rigl_toy()
    batch = example(x, {"a": 1.0, "b": 1.0})
    masks = METHODS["rigl"].regrow(toy.context, batch, fraction, 6 / 10).masks
    assert row_of(masks["shared.weight"]) == kept
    toy.registry.update(masks, None)
    now = toy.registry.parameters["shared.weight"][0].tolist()
    # Old places keep their value, new ones start at 0.
    assert now == [w if i in kept else 0 for i, w in enumerate([8, -7, 6, -5, 0, 0, 0, 0])]


def test_growth_follows_the_joint_gradient() -> None:
    # Place 4 matters most to either task, but they pull against each other: 9 - 9 = 0.
    both = one_example_each({"a": [0, 0, 0, 0, 9, 3, 1, 0], "b": [0, 0, 0, 0, -9, 3, 2, 0]})
    toy = rigl_toy()
    masks = METHODS["rigl"].regrow(toy.context, both, 0.5, 6 / 10).masks
    assert row_of(masks["shared.weight"]) == [0, 1, 5, 6]  # sums 6 and 3
    masks = METHODS["disparse-dynamic"].regrow(toy.context, both, 0.5, 6 / 10).masks
    assert bool(masks["shared.weight"][0, 4])  # which is what DiSparse is about
