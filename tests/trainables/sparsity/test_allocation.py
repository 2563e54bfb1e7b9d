"""Whole numbers that add up, whatever the shapes and the sparsity."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.errors import UserError
from trainables.sparsity.allocation import allocate, apportion, rescale, target_count

SHAPES = st.lists(
    st.one_of(
        st.tuples(*[st.integers(1, 40)] * 2),
        st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=8,
).map(lambda shapes: {f"layer{i}": s for i, s in enumerate(shapes)})
FRACTIONS = st.floats(0, 1, allow_subnormal=False)  # tests run with denormals flushed
SPARSITIES = st.one_of(
    st.sampled_from([0.0, 0.3, 0.5, 0.9, 0.99, 0.999]), FRACTIONS.filter(lambda s: s < 1)
)


@given(shapes=SHAPES, sparsity=SPARSITIES, kind=st.sampled_from(["uniform", "er", "erk"]))
@settings(max_examples=200, deadline=None)
def test_counts_are_exact_and_fit(
    shapes: dict[str, tuple[int, ...]], sparsity: float, kind: str
) -> None:
    total = sum(math.prod(s) for s in shapes.values())
    count = target_count(1 - sparsity, total)
    counts = allocate(kind, shapes, count)
    assert sum(counts.values()) == count == round((1 - sparsity) * total)
    assert all(0 <= counts[n] <= math.prod(s) for n, s in shapes.items())


@given(shapes=SHAPES, steps=st.lists(FRACTIONS, min_size=2, max_size=5))
@settings(max_examples=100, deadline=None)
def test_capped_levels_nest(shapes: dict[str, tuple[int, ...]], steps: list[float]) -> None:
    total = sum(math.prod(s) for s in shapes.values())
    caps = None
    for density in sorted(steps, reverse=True):
        counts = allocate("erk", shapes, round(density * total), caps=caps)
        assert sum(counts.values()) == round(density * total)
        if caps is not None:
            assert all(counts[n] <= caps[n] for n in counts)
        caps = counts


def test_the_alabama_paradox_is_capped() -> None:
    # Shares 6, 6, 2: with 10 seats the small layer has 2, with 11 it has 1.
    shares = {"a": 6, "b": 6, "c": 2}
    room = {n: 100 for n in shares}
    eleven, ten = apportion(shares, room, 11), apportion(shares, room, 10)
    assert (eleven["c"], ten["c"]) == (1, 2)
    nested = apportion(shares, eleven, 10)
    assert sum(nested.values()) == 10
    assert all(nested[n] <= eleven[n] for n in shares)


@given(
    shapes=SHAPES,
    before=FRACTIONS,
    after=FRACTIONS,
)
@settings(max_examples=100, deadline=None)
def test_rescaled_counts_are_exact(
    shapes: dict[str, tuple[int, ...]], before: float, after: float
) -> None:
    total = sum(math.prod(s) for s in shapes.values())
    counts = allocate("erk", shapes, round(before * total))
    scaled = rescale(counts, shapes, round(after * total))
    assert sum(scaled.values()) == round(after * total)
    assert all(scaled[n] <= math.prod(s) for n, s in shapes.items())
    assert rescale(counts, shapes, sum(counts.values())) == counts


def test_unknown_allocation_lists_the_valid_ones() -> None:
    with pytest.raises(UserError, match=r"'erkk'\. Did you mean 'erk'\? Valid: er, erk, uniform\."):
        allocate("erkk", {"a": (2, 2)}, 1)
