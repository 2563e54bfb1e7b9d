"""The two orders of a rung against brute force: ranks by peeling, niches from their docstring."""

import math
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.pareto import dominates, non_domination_rank
from search import orders
from search.orders import Order, RankOrder, get_order
from trainables.errors import UserError

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


def filled(name: str, rows: list[list[float]], num_objectives: int) -> Order:
    order = get_order(name)(num_objectives)
    for row in rows:
        order.add(np.array(row))
    return order


@settings(max_examples=80, deadline=None)
@given(matrices(least=1))
def test_ranks_are_those_of_peeling_after_every_insertion(rows: list[list[float]]) -> None:
    order = RankOrder(len(rows[0]))
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
    order = RankOrder(num_objectives)
    for row in rows:
        order.add(row)
    assert order.rank_N.tolist() == non_domination_rank(rows).tolist()


def test_a_chain_that_comes_best_last_is_ranked_backwards() -> None:
    order = RankOrder(1)
    for value in range(300, 0, -1):
        order.add(np.array([float(value)]))
    assert order.rank_N.tolist() == list(range(299, -1, -1))


def naive_niches(rows: list[list[float]], vector: list[float]) -> int:
    """`NicheOrder.num_before` from its docstring alone, in exact numbers."""
    num_objectives = len(vector)

    def fractional_rank(objective: int, value: float) -> Fraction:
        column = [row[objective] for row in rows]
        half = Fraction(1, 2)
        counts = sum(1 if v < value else half if v == value else 0 for v in column)
        return counts / Fraction(len(rows))

    def scalar(weights: tuple[Fraction, ...], row: list[float]) -> Fraction:
        terms = [w * fractional_rank(i, row[i]) for i, w in enumerate(weights)]
        return max(terms) + Fraction(1, 100) * sum(terms)

    def lattice(divisions: int) -> list[tuple[Fraction, ...]]:
        steps = product(range(divisions + 1), repeat=num_objectives)
        return [
            tuple(Fraction(step + 1, divisions + num_objectives) for step in point)
            for point in steps
            if sum(point) == divisions
        ]

    divisions = 1
    while divisions < 12 and math.comb(divisions + num_objectives, num_objectives - 1) <= 50:
        divisions += 1
    niches = lattice(divisions)
    known = [[scalar(niche, row) for niche in niches] for row in rows]
    mine = [scalar(niche, vector) for niche in niches]

    def place(scalars: list[Fraction]) -> int:
        return min(sum(k[i] < s for k in known) for i, s in enumerate(scalars))

    own = place(mine)
    return sum(place(scalars) < own for scalars in known)


@settings(max_examples=50, deadline=None)
@given(matrices(max_rows=7, least=1))
def test_niches_are_what_their_docstring_says(rows: list[list[float]]) -> None:
    *known, vector = rows
    expected = naive_niches(known, vector) if known else 0
    assert filled("niches", known, len(vector)).num_before(np.array(vector)) == expected


@pytest.mark.parametrize("num_objectives", range(1, 7))
def test_weights_are_positive_and_closed_under_permutation(num_objectives: int) -> None:
    weights = [tuple(w) for w in orders._lattice(num_objectives).tolist()]
    assert len(set(weights)) == len(weights) <= 50
    assert len({sum(w) for w in weights}) == 1
    assert min(map(min, weights)) > 0
    assert {p for w in weights for p in permutations(w)} == set(weights)


def test_niches_tell_the_vectors_of_a_front_apart() -> None:
    """What ranks cannot do: of records that do not dominate one another, some come first."""
    generator = np.random.default_rng(0)
    points = np.abs(generator.normal(size=(60, 3)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    ranks, niches = (filled(name, points.tolist(), 3) for name in ("ranks", "niches"))
    by_rank = [ranks.num_before(p) for p in points]
    by_niche = [niches.num_before(p) for p in points]
    assert by_rank == [0] * 60
    assert len(set(by_niche)) > 3
    assert sum(before > 20 for before in by_niche) > 20


def test_the_cheapest_of_all_is_not_spared_by_its_cost_alone() -> None:
    """Quality and cost, both minimised: good ones at many costs, then a useless cheapest one."""
    rows = [[0.5 - 0.01 * i, 0.1 + 0.01 * i] for i in range(30)]
    rows += [[0.9 + 0.01 * i, 0.1 + 0.01 * i] for i in range(30)]
    cheapest = np.array([50.0, 0.09])
    assert filled("ranks", rows, 2).num_before(cheapest) == 0
    assert filled("niches", rows, 2).num_before(cheapest) > 0


@settings(max_examples=80, deadline=None)
@given(matrices(least=1), st.sampled_from(["ranks", "niches"]), st.data())
def test_whatever_dominates_comes_no_later(
    rows: list[list[float]], name: str, data: st.DataObject
) -> None:
    *known, worse = rows
    order = filled(name, known, len(worse))
    better = [data.draw(st.sampled_from([v, *(x for x in LEVELS if x < v)])) for v in worse]
    assert order.num_before(np.array(better)) <= order.num_before(np.array(worse))
    if all(dominates(better, row) or better == row for row in known):
        assert order.num_before(np.array(better)) == 0


@settings(max_examples=80, deadline=None)
@given(matrices(least=1), st.sampled_from(["ranks", "niches"]), st.data())
def test_permuting_and_rescaling_objectives_changes_nothing(
    rows: list[list[float]], name: str, data: st.DataObject
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
    first, second = get_order(name)(num_objectives), get_order(name)(num_objectives)
    for row, changed in zip(rows, other, strict=True):
        assert first.num_before(np.array(row)) == second.num_before(np.array(changed))
        first.add(np.array(row))
        second.add(np.array(changed))


@pytest.mark.parametrize("name", ["ranks", "niches"])
def test_records_beyond_the_newest_thousand_keep_their_share(name: str) -> None:
    """Of 1,500 records in a line, a newcomer in the middle of the newest 1,000."""
    order = filled(name, [[float(i)] for i in range(1500)], 1)
    expected = {"ranks": 1000, "niches": 750}[name]
    assert order.num_before(np.array([999.5])) == expected
    assert order.num_before(np.array([-1.0])) == 0
    assert len(order) == 1500


def test_an_unknown_order_lists_the_valid_ones() -> None:
    with pytest.raises(UserError, match=r"unknown order .*rank.* valid: niches, ranks"):
        get_order("rank")
