"""Check `analysis.statistics.pareto` against the definition, and on cases worked by hand."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from moocore import is_nondominated, pareto_rank

from analysis.statistics import pareto

# Few distinct values, so that ties, duplicates, infinities, both zeros and NaN are common.
VALUES = st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.5, float("inf"), float("-inf"), float("nan")])
MATRICES = hnp.arrays(np.float64, st.tuples(st.integers(0, 24), st.integers(1, 4)), elements=VALUES)
FINITE = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.integers(2, 5)),
    elements=st.floats(-4, 4, width=16, allow_subnormal=False),
)


def beats(first: np.ndarray, second: np.ndarray) -> bool:
    """The definition, one pair at a time."""
    if any(v != v for v in (*first, *second)):
        return False
    pairs = list(zip(first, second, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def brute_force_mask(values: np.ndarray) -> list[bool]:
    return [
        not any(v != v for v in row) and not any(beats(other, row) for other in values)
        for row in values
    ]


def brute_force_rank(values: np.ndarray) -> list[int]:
    """Peel fronts off until only vectors with a NaN are left."""
    left = [i for i, row in enumerate(values) if not any(v != v for v in row)]
    rank, level = {}, 0
    while left:
        front = [i for i in left if not any(beats(values[j], values[i]) for j in left)]
        rank |= dict.fromkeys(front, level)
        left = [i for i in left if i not in rank]
        level += 1
    return [rank.get(i, max(1, level)) for i in range(len(values))]


@given(MATRICES)
def test_mask_is_the_definition(values: np.ndarray) -> None:
    assert pareto.non_dominated(values).tolist() == brute_force_mask(values)


@given(MATRICES)
def test_rank_is_peeling(values: np.ndarray) -> None:
    rank = pareto.non_domination_rank(values)
    assert rank.tolist() == brute_force_rank(values)
    assert ((rank == 0) == pareto.non_dominated(values)).all()


@given(FINITE, st.randoms())
def test_neither_order_of_items_nor_of_objectives_nor_scale_matters(values, random) -> None:
    rank = pareto.non_domination_rank(values)
    items, columns = list(range(len(values))), list(range(values.shape[1]))
    random.shuffle(items)
    random.shuffle(columns)
    turned = values[items][:, columns] * 8.0  # a power of two: no value rounds
    assert pareto.non_domination_rank(turned).tolist() == rank[items].tolist()


@pytest.mark.parametrize("num_objectives", [2, 3, 4, 6])
@pytest.mark.parametrize("kind", ["uniform", "ties", "front", "chain"])
def test_large_sets_agree_with_moocore(kind: str, num_objectives: int) -> None:
    """Larger than a chunk, so that the boundaries between chunks are crossed."""
    rng = np.random.default_rng(num_objectives)
    shape = (1500, num_objectives)
    values = {
        "uniform": lambda: rng.random(shape),
        "ties": lambda: rng.integers(0, 7, shape).astype(float),
        "front": lambda: rng.dirichlet(np.ones(num_objectives), shape[0]),
        "chain": lambda: rng.permutation(np.repeat(np.arange(1500.0)[:, None], shape[1], 1)),
    }[kind]()
    expected = is_nondominated(values, keep_weakly=True)
    assert (pareto.non_dominated(values) == expected).all()
    assert (pareto.non_domination_rank(values) == pareto_rank(values)).all()


def test_a_case_worked_by_hand() -> None:
    values = [[1, 5], [2, 3], [2, 3], [4, 1], [3, 3], [2, 6], [5, 5], [float("nan"), 0]]
    assert pareto.non_domination_rank(values).tolist() == [0, 0, 0, 0, 1, 1, 2, 3]
    assert pareto.non_dominated_order(values).tolist() == [0, 1, 2, 3]


def test_a_vector_with_nan_beats_nothing() -> None:
    assert pareto.non_dominated([[0.0, float("nan")], [9.0, 9.0]]).tolist() == [False, True]
    assert pareto.non_domination_rank([[float("nan")] * 2]).tolist() == [1]
    assert not pareto.dominates([0.0, float("nan")], [1.0, 1.0])
    assert pareto.dominates([0.0, 1.0], [0.0, float("inf")])
    assert not pareto.dominates([0.0, 1.0], [0.0, 1.0])


def test_no_items() -> None:
    assert pareto.non_dominated(np.empty((0, 3))).shape == (0,)
    assert pareto.non_domination_rank(np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize("shape", [(4,), (2, 0), (2, 2, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two-dimensional"):
        pareto.non_dominated(np.zeros(shape))


def test_ten_thousand_vectors_take_about_a_second() -> None:
    """The worst case for the mask is a set where nothing is dominated."""
    values = np.random.default_rng(0).dirichlet(np.ones(4), 10_000)
    started = time.process_time()
    assert pareto.non_dominated(values).all()
    pareto.non_domination_rank(values)
    assert time.process_time() - started < 4.0  # measured 0.2 s; room for a slow machine
