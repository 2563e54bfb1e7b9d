"""Ranks that are kept up to date, against peeling them anew; and the laws a rung relies on."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.pareto import dominates, non_domination_rank
from search.schedulers.ranks import RankedRecords

# Few distinct values make ties, duplicates and chains; infinities are values like others.
LEVELS = (-math.inf, -2.0, -1.0, -0.0, 0.0, 1.0, 2.0, math.inf)


@st.composite
def matrices(draw: st.DrawFn, max_rows: int = 14, least: int = 0) -> list[list[float]]:
    """(N, M) with M in 1..6."""
    num_objectives = draw(st.integers(1, 6))
    value = st.one_of(st.sampled_from(LEVELS), st.floats(allow_nan=False, allow_subnormal=False))
    if draw(st.booleans()):
        value = st.sampled_from(LEVELS)
    row = st.lists(value, min_size=num_objectives, max_size=num_objectives)
    return draw(st.lists(row, min_size=least, max_size=max_rows))


def filled(rows: list[list[float]], num_objectives: int) -> RankedRecords:
    order = RankedRecords(num_objectives)
    for row in rows:
        order.add(np.array(row))
    return order


@settings(max_examples=80, deadline=None)
@given(matrices(least=1))
def test_ranks_are_those_of_peeling_after_every_insertion(rows: list[list[float]]) -> None:
    order = RankedRecords(len(rows[0]))
    for num, row in enumerate(rows, start=1):
        known = np.array(rows[: num - 1]).reshape(num - 1, len(row))
        rank_N = non_domination_rank(np.concatenate([known, [row]]))
        # The newcomer's rank among all; of the others, the ranks they have without it.
        before = int((non_domination_rank(known) < rank_N[-1]).sum()) if num > 1 else 0
        assert order.num_before(np.array(row)) == before
        order.add(np.array(row))
        assert order.rank_N.tolist() == rank_N.tolist()
        assert order.values_NM.tolist() == [list(map(float, r)) for r in rows[:num]]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2, 3, 6]), st.booleans())
def test_ranks_of_hundreds_that_grow_better(seed: int, num_objectives: int, better: bool) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 30, size=(200, num_objectives)).astype(float)
    if better:  # a search that gets on pushes long chains of records back
        rows -= np.arange(200)[:, None] // 4
    order = RankedRecords(num_objectives)
    for row in rows:
        order.add(row)
    assert order.rank_N.tolist() == non_domination_rank(rows).tolist()


def test_a_chain_that_comes_best_last_is_ranked_backwards() -> None:
    order = RankedRecords(1)
    for value in range(300, 0, -1):
        order.add(np.array([float(value)]))
    assert order.rank_N.tolist() == list(range(299, -1, -1))


def test_the_cheapest_of_all_comes_first_however_bad_it_is() -> None:
    """A weakness of ranks, and known: floors on quality are for that."""
    rows = [[0.5 - 0.01 * i, 0.1 + 0.01 * i] for i in range(30)]
    assert filled(rows, 2).num_before(np.array([50.0, 0.09])) == 0


@settings(max_examples=80, deadline=None)
@given(matrices(least=1), st.data())
def test_whatever_dominates_comes_no_later(rows: list[list[float]], data: st.DataObject) -> None:
    *known, worse = rows
    order = filled(known, len(worse))
    better = [data.draw(st.sampled_from([v, *(x for x in LEVELS if x < v)])) for v in worse]
    assert order.num_before(np.array(better)) <= order.num_before(np.array(worse))
    if all(dominates(better, row) or better == row for row in known):
        assert order.num_before(np.array(better)) == 0


@settings(max_examples=80, deadline=None)
@given(matrices(least=1), st.data())
def test_permuting_and_rescaling_objectives_changes_nothing(
    rows: list[list[float]], data: st.DataObject
) -> None:
    num_objectives = len(rows[0])
    places = data.draw(st.permutations(range(num_objectives)))
    columns = []
    for place in places:  # any strictly increasing function, by where it takes each value
        values = sorted({row[place] for row in rows})
        images = data.draw(
            st.lists(
                st.floats(allow_nan=False, allow_subnormal=False),
                min_size=len(values),
                max_size=len(values),
                unique=True,
            )
        )
        to_image = dict(zip(values, sorted(images), strict=True))
        columns.append([to_image[row[place]] for row in rows])
    other = [list(row) for row in zip(*columns, strict=True)]
    first, second = RankedRecords(num_objectives), RankedRecords(num_objectives)
    for row, changed in zip(rows, other, strict=True):
        assert first.num_before(np.array(row)) == second.num_before(np.array(changed))
        first.add(np.array(row))
        second.add(np.array(changed))
