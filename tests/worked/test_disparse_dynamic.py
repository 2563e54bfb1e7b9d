"""DiSparse dynamic by hand: drop, then grow by vote; each arbiter with each budget.

A shared layer 1×8 holds 8 7 6 5 at places 0–3 and nothing at 4–7; heads are 1×1 and all 1, so
∂L_k/∂w is the input that task k sees. α = 0.5 drops ⌊0.5·4⌋ = 2: the 6 and the 5 at places 2 and
3. Each task then ranks the six inactive places 2–7 and two are to be grown.

    two tasks    a: 4 6 7 2 3 5        b: 5 7 6 3 2 4
    three tasks  a: 4 6 7 2 3 5        b: 5 6 7 2 3 4        c: 4 7 2 3 5 6
"""

import pytest

from tests.trainables.sparsity.toys import Toy
from tests.worked.networks import network, one_example_each, row_of, worked_toy
from trainables.sparsity.catalogue import METHODS

TWO = one_example_each(
    {
        # place 0  1  2  3  4  5  6  7
        "a": [0, 0, 6, 5, 9, 4, 8, 7],
        "b": [0, 0, 5, 6, 4, 9, 7, 8],
    }
)
THREE = one_example_each(
    {
        "a": [0, 0, 6, 5, 9, 4, 8, 7],
        "b": [0, 0, 6, 5, 4, 9, 8, 7],
        "c": [0, 0, 7, 6, 9, 5, 4, 8],
    }
)
DYNAMIC = METHODS["disparse-dynamic"]


def toy_of(num_tasks: int, budget: str, arbiter: str = "unanimous") -> Toy:
    model = network([[8, 7, 6, 5, 0, 0, 0, 0]], {task: [1] for task in "abc"[:num_tasks]})
    toy = worked_toy(model, sparsity__arbiter=arbiter, regrowth__budget=budget)
    keep = toy.registry.keep()
    keep["shared.weight"][0, 4:] = False
    toy.registry.update(keep, None)
    return toy


@pytest.mark.parametrize(
    ("budget", "arbiter", "grown"),
    [
        # Ranks (a, b): 4: 1 6 · 5: 6 1 · 6: 2 3 · 7: 3 2 · 2: 4 5 · 3: 5 4
        ("exact", "unanimous", [4, 5]),  # first votes: 4 and 5 at rank 1
        ("exact", "majority", [4, 5]),  # of two tasks the same
        ("exact", "intersection", [6, 7]),  # last votes: 6 and 7 at rank 3
        # Each grows its own two: a 4 6, b 5 7.
        ("published", "unanimous", [4, 5, 6, 7]),  # the union: 6 kept = 1.5 · 4
        ("published", "majority", [4, 5, 6, 7]),
        ("published", "intersection", []),  # they share none: 2 kept = 0.5 · 4
    ],
)
def test_two_tasks(budget: str, arbiter: str, grown: list[int]) -> None:
    toy = toy_of(2, budget, arbiter)
    proposal = DYNAMIC.regrow(toy.context, TWO, 0.5, 6 / 10)
    assert row_of(proposal.masks["shared.weight"]) == [0, 1, *grown]


@pytest.mark.parametrize(
    ("budget", "arbiter", "grown"),
    [
        # Ranks (a, b, c), sorted: 4: 1 1 6 · 5: 1 5 6 · 6: 2 2 6 · 7: 2 3 3 · 2: 3 4 4 · 3: 4 5 5
        ("exact", "unanimous", [4, 5]),  # first votes 1, 1
        ("exact", "majority", [4, 6]),  # second votes 1, 2
        ("exact", "intersection", [2, 7]),  # last votes 4, 3; place 2 was dropped and comes back
        # Each grows its own two: a 4 6, b 5 6, c 4 7.
        ("published", "unanimous", [4, 5, 6, 7]),
        ("published", "majority", [4, 6]),  # two votes each
        ("published", "intersection", []),
    ],
)
def test_three_tasks(budget: str, arbiter: str, grown: list[int]) -> None:
    toy = toy_of(3, budget, arbiter)
    proposal = DYNAMIC.regrow(toy.context, THREE, 0.5, 7 / 11)
    assert row_of(proposal.masks["shared.weight"]) == sorted([0, 1, *grown])
    assert proposal.votes is not None
    votes = {task: row_of(vote["shared.weight"]) for task, vote in proposal.votes.items()}
    if budget == "published":
        assert votes == {"a": [4, 6], "b": [5, 6], "c": [4, 7]}


def test_the_published_budget_overshoots_until_the_next_drop() -> None:
    toy = toy_of(2, "published")
    toy.registry.update(DYNAMIC.regrow(toy.context, TWO, 0.5, 6 / 10).masks, None)
    weight = toy.registry.parameters["shared.weight"]
    assert weight.tolist() == [[8, 7, 0, 0, 0, 0, 0, 0]]
    assert toy.registry.kept_by_layer["shared.weight"] == 6  # 0 1 4 5 6 7
    # Place 6 learns .5. α = 0.25 of the allocated four: 4 - 1 = 3 survive, 0 1 6. Each task
    # grows one, a place 4 and b place 5: five are kept, 1.25 · 4.
    weight.data[0, 6] = 0.5
    again = DYNAMIC.regrow(toy.context, TWO, 0.25, 6 / 10)
    assert row_of(again.masks["shared.weight"]) == [0, 1, 4, 5, 6]
    # Place 7 learns -.25. α = 0: the four largest, 0 1 6 7, and none is grown.
    weight.data[0, 7] = -0.25
    last = DYNAMIC.regrow(toy.context, TWO, 0.0, 6 / 10)
    assert row_of(last.masks["shared.weight"]) == [0, 1, 6, 7]


def test_a_weight_dropped_and_grown_again_keeps_its_value() -> None:
    toy = toy_of(2, "exact")
    # Both want places 2 and 3, just dropped, most.
    batch = one_example_each({"a": [0, 0, 9, 8, 1, 2, 3, 4], "b": [0, 0, 9, 8, 1, 2, 3, 4]})
    masks = DYNAMIC.regrow(toy.context, batch, 0.5, 6 / 10).masks
    assert row_of(masks["shared.weight"]) == [0, 1, 2, 3]
    toy.registry.update(masks, None)
    weight = toy.registry.parameters["shared.weight"]
    assert weight.tolist() == [[8, 7, 6, 5, 0, 0, 0, 0]]


def test_a_head_grows_by_its_own_task_alone() -> None:
    # W = (1, 2, 3, 4) down, inputs 3 and -1, so ∂L_a/∂h_a = (3, 6, 9, 12) and ∂L_b/∂h_b =
    # (-1, -2, -3, -4) + 0·a's. Heads hold 5 4 or 4 5 at places 0 1; α = 0.5 drops the 4.
    model = network([[1], [2], [3], [4]], {"a": [5, 4, 0, 0], "b": [4, 5, 0, 0]})
    toy = worked_toy(model)
    keep = toy.registry.keep()
    for name in ("heads.a.weight", "heads.b.weight"):
        keep[name][0, 2:] = False
    toy.registry.update(keep, None)
    masks = DYNAMIC.regrow(toy.context, one_example_each({"a": [3], "b": [-1]}), 0.5, 8 / 12).masks
    assert row_of(masks["heads.a.weight"]) == [0, 3]
    assert row_of(masks["heads.b.weight"]) == [1, 3]
    assert bool(masks["shared.weight"].all())  # dense: the two dropped are the only candidates
