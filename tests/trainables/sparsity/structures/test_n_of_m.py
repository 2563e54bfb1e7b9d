"""Laws of N:M, against the words of its definition."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.sparsity.toys import ToyNetwork, toy_context
from trainables.errors import UserError
from trainables.registry.structures import group_sizes
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.structures.n_of_m import largest_group

SIZES = [(1, 2), (2, 4), (1, 4), (4, 8)]
PRUNING = [m.name for m in METHODS.values() if "N:M" in m.description.structures and not m.regrows]
REGROWING = [m.name for m in METHODS.values() if "N:M" in m.description.structures and m.regrows]


def context(n: int, m: int, seed: int = 0, **overrides: object):  # type: ignore[no-untyped-def]
    return toy_context(
        ToyNetwork(width=8, seed=seed),
        seed=seed,
        sparsity__structure=f"{n}:{m}",
        sparsity__target=1 - n / m,
        **overrides,
    )


@settings(max_examples=10, deadline=None)
@given(sizes=st.sampled_from(SIZES), seed=st.integers(0, 99))
@pytest.mark.parametrize("method", PRUNING)
def test_every_group_keeps_exactly_n(method: str, sizes: tuple[int, int], seed: int) -> None:
    n, m = sizes
    toy = context(n, m, seed)
    proposal = METHODS[method].prune(toy.context, n / m)
    toy.registry.update(proposal.masks, None, proposal.votes)
    dense = toy.context.structure.left_dense
    for name, keep in toy.registry.keep().items():
        if name in dense:
            assert keep.all()
            assert keep.shape[1] % m
        else:
            assert (keep.unflatten(1, (-1, m)).sum(dim=2) == n).all(), name
    assert set(largest_group(toy.registry.keep(), m).values()) == {n}
    assert "trunk.0.weight" in dense  # images have three channels


@pytest.mark.parametrize("method", REGROWING)
def test_regrowth_fills_every_group_again(method: str) -> None:
    toy = context(2, 4)
    masks = METHODS[method].prune(toy.context, 0.5).masks
    toy.registry.update(masks, None)
    batch = next(toy.context.batches(1))
    proposal = METHODS[method].regrow(toy.context, batch, 0.5, 0.5)
    for name, keep in proposal.masks.items():
        if name not in toy.context.structure.left_dense:
            assert (keep.unflatten(1, (-1, 4)).sum(dim=2) == 2).all(), name
    assert any(not torch.equal(masks[n], proposal.masks[n]) for n in masks)


def test_a_gradual_schedule_nests_from_m_to_n() -> None:
    toy = context(2, 8)
    found = [toy.registry.keep()]
    for density in (0.9, 0.6, 0.5, 0.25):
        proposal = METHODS["gmp"].prune(toy.context, density)
        toy.registry.update(proposal.masks, None)
        found.append(toy.registry.keep())
    sizes = [max(largest_group(masks, 8).values()) for masks in found]
    assert sizes == [8, 8, 5, 4, 2]
    for before, after in pairwise(found):
        assert all(not (after[n] & ~before[n]).any() for n in before)


@pytest.mark.parametrize(
    ("structure", "said"),
    [
        ("4:4", "must hold 1 <= N < M <= 64"),
        ("3:2", "must hold 1 <= N < M <= 64"),
        ("2x4", "must be weight, channel or N:M"),
        ("0:4", "must be weight, channel or N:M"),
    ],
)
def test_wrong_sizes_are_refused(structure: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        group_sizes(structure)


def test_a_target_that_is_not_n_of_m_is_refused() -> None:
    with pytest.raises(UserError, match=r"must be 0\.5 for structure 2:4, which sets it"):
        toy_context(ToyNetwork(), sparsity__structure="2:4", sparsity__target=0.9)


def test_an_m_that_divides_no_layer_is_refused_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"multiple of 7, got 3, 4, 6; choose an M that divides"):
        toy_context(ToyNetwork(), sparsity__structure="2:7", sparsity__target=1 - 2 / 7)
