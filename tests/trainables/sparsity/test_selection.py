"""Exact counts under ties, and a tie order that is a permutation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.sparsity.selection import (
    TieOrder,
    keep_largest,
    order_keys,
    place_of,
    select,
    sort_descending,
)


def ties(seed: int = 0) -> TieOrder:
    return TieOrder.drawn(torch.Generator().manual_seed(seed))


def keys(scores: Tensor, seed: int = 0) -> Tensor:
    return order_keys(scores, ties(seed), torch.arange(scores.numel()))


@given(
    scores=st.lists(st.integers(-3, 3), min_size=1, max_size=60), share=st.integers(0, 100),
    seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_exact_count_and_nothing_better_left_out(scores: list[int], share: int, seed: int) -> None:
    values = torch.tensor(scores, dtype=torch.float32)
    count = round(share / 100 * len(scores))
    kept = keep_largest(keys(values, seed), count)
    assert int(kept.sum()) == count
    if 0 < count < len(scores):
        assert values[kept].min() >= values[~kept].max()


@given(seed=st.integers(0, 2**31), start=st.integers(0, 2**32 - 1000))
@settings(max_examples=50, deadline=None)
def test_the_tie_order_is_a_permutation_that_can_be_undone(seed: int, start: int) -> None:
    index = torch.arange(start, start + 1000)
    order = ties(seed)
    place = order.place(index)
    assert place.unique().numel() == 1000
    assert int(place.min()) >= 0
    assert int(place.max()) < 2**32
    assert torch.equal(order.index(place), index)


def test_keys_sort_like_scores() -> None:
    scores = torch.tensor([0.0, -0.0, 1.5, -1.5, torch.inf, -torch.inf, 1e-30, -2e30])
    order = ties().index(place_of(sort_descending(keys(scores)))).tolist()
    assert order[:3] == [4, 2, 6]
    assert sorted(order[3:5]) == [0, 1]  # minus zero ties with zero
    assert order[5:] == [3, 7, 5]


@pytest.mark.parametrize("limit", [0, 1, 7, 20, 21, None])
def test_sorting_down_to_a_limit(limit: int | None) -> None:
    values = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    expected = list(range(19, -1, -1))[:limit]
    assert sort_descending(values, limit).tolist() == expected


def test_tie_order_depends_on_the_seed_only() -> None:
    flat = torch.zeros(1000)
    first, again, other = (keep_largest(keys(flat, seed), 500) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    overlap = int((first & other).sum())
    assert 150 < overlap < 350  # another seed keeps another half
    # and ties are not settled by position
    assert 150 < int(first[:500].sum()) < 350


def test_select_over_all_and_by_tensor_within_masks() -> None:
    scores = {"a": torch.tensor([[5.0, 1.0], [4.0, 0.0]]), "b": torch.tensor([3.0, 6.0])}
    assert torch.equal(select(scores, 3, ties())["a"], torch.tensor([[True, False], [True, False]]))
    assert select(scores, 3, ties())["b"].tolist() == [False, True]
    each = select(scores, {"a": 1, "b": 2}, ties())
    assert each["a"].tolist() == [[True, False], [False, False]]
    assert each["b"].tolist() == [True, True]
    within = {"a": torch.tensor([[False, True], [True, True]]), "b": torch.tensor([True, False])}
    inside = select(scores, 4, ties(), within)
    assert all(torch.equal(inside[name], within[name]) for name in within)


def test_a_score_that_is_not_a_number_names_its_tensor() -> None:
    for bad in (torch.nan, torch.inf):
        scores = {"fine": torch.ones(3), "heads.a.weight": torch.tensor([1.0, bad])}
        with pytest.raises(FloatingPointError, match=r"heads\.a\.weight"):
            select(scores, 2, ties())


@pytest.mark.gpu
def test_the_device_does_not_change_the_choice() -> None:
    values = torch.randint(0, 5, (100_000,)).float()
    index = torch.arange(values.numel())
    on_cpu = keep_largest(order_keys(values, ties(), index), 12_345)
    on_gpu = keep_largest(order_keys(values.cuda(), ties(), index.cuda()), 12_345)
    assert torch.equal(on_cpu, on_gpu.cpu())
