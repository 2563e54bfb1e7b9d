"""Two ways to put vectors in order at a rung: by non-domination rank, and by niche.

Everything is minimised. Shape suffixes: N records, M objectives, W weight vectors.

An order says how many records come strictly before a vector, `num_before`, and takes further
records, `add`. Both depend on the records and the vector alone, obey the laws in `search.rungs`,
and look at comparisons of values only, never at their scale.
"""

import itertools
import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.errors import unknown_name

_FIRST_CAPACITY = 16
_MAX_COMPARED = 1000  # records that a niche order looks at, the newest: bounds a decision's cost
_NUM_WEIGHTS = 50  # at most so many niches, whatever the number of objectives
_MAX_DIVISIONS = 12  # of two objectives: the steepest trade-off is 13 to 1
_LARGEST = 100  # times that the largest term counts beside the sum, which sees all domination


class Order(Protocol):
    """Vectors without a NaN, in the order that decides who goes on."""

    def __len__(self) -> int: ...

    def num_before(self, vector: NDArray[np.float64]) -> int: ...

    def add(self, vector: NDArray[np.float64]) -> None: ...

    @property
    def values_NM(self) -> NDArray[np.float64]: ...


class _Records:
    """An (N, M) array that grows."""

    def __init__(self, num_objectives: int) -> None:
        self._array = np.empty((_FIRST_CAPACITY, num_objectives))
        self._num = 0

    def __len__(self) -> int:
        return self._num

    @property
    def values_NM(self) -> NDArray[np.float64]:
        """The records in the order they came."""
        return self._array[: self._num]

    def add(self, vector: NDArray[np.float64]) -> None:
        if self._num == len(self._array):
            self._array = np.concatenate([self._array, np.empty_like(self._array)])
        self._array[self._num] = vector
        self._num += 1


class RankOrder(_Records):
    """By non-domination rank; vectors of one rank are not before one another.

    Ranks are kept up to date. A new record costs one comparison with all others, O(N M), and
    pushes others back level by level (Li et al. 2014, "Efficient non-domination level update").
    Where it pushes a whole level, all that is behind goes with it: in a chain of N records, as
    of one objective, a step for every level would make N of them.
    """

    def __init__(self, num_objectives: int) -> None:
        super().__init__(num_objectives)
        self._ranks = np.empty(_FIRST_CAPACITY, dtype=np.intp)

    @property
    def rank_N(self) -> NDArray[np.intp]:
        """Of every record, 0 for the front."""
        return self._ranks[: len(self)]

    def num_before(self, vector: NDArray[np.float64]) -> int:
        return int(np.count_nonzero(self.rank_N < self._rank_of(vector)))

    def add(self, vector: NDArray[np.float64]) -> None:
        level = rank = self._rank_of(vector)
        values_NM, rank_N = self.values_NM, self.rank_N
        moved_N: NDArray[np.bool_] = np.zeros(len(self), dtype=bool)  # each by one level
        level_order = np.flatnonzero(rank_N == level)
        pushed_order = level_order[_dominated(vector, values_NM[level_order])]
        while len(pushed_order):
            if len(pushed_order) == len(level_order):
                moved_N |= rank_N >= level
                break
            moved_N[pushed_order] = True
            level += 1
            level_order = np.flatnonzero(rank_N == level)
            beaten: NDArray[np.bool_] = np.zeros(len(level_order), dtype=bool)
            for index in pushed_order:
                left_order = np.flatnonzero(~beaten)
                beaten[left_order] = _dominated(
                    values_NM[index], values_NM[level_order[left_order]]
                )
            pushed_order = level_order[beaten]
        rank_N[moved_N] += 1
        super().add(vector)
        if len(self) > len(self._ranks):
            self._ranks = np.concatenate([self._ranks, np.empty_like(self._ranks)])
        self._ranks[len(self) - 1] = rank

    def _rank_of(self, vector: NDArray[np.float64]) -> int:
        """One more than the worst rank among those that dominate it."""
        values_NM = self.values_NM
        dominates_N = (values_NM <= vector).all(axis=1) & (values_NM < vector).any(axis=1)
        return int(self.rank_N[dominates_N].max(initial=-1)) + 1


class NicheOrder(_Records):
    """By the place a vector takes in its best niche.

    A niche is a trade-off between the objectives: a weight vector of an augmented Chebyshev
    scalarisation (Steuer and Choo 1983), max_i w_i z_i + ρ Σ_i w_i z_i with ρ = 0.01, where z are
    fractional ranks among the records, equal ones counting half. The place of a vector in a niche
    is the number of records that are better there, and its own place the best over the niches;
    the records with a better place of their own come before it. So a trial that is second in its
    part of the front comes early although it is dominated, and one that is best in nothing but
    cost, at any price in quality, does not: every weight is above zero. Mutually non-dominated
    vectors are told apart however many objectives there are. All is counted in whole numbers,
    so that ties are ties whatever the order of the objectives.

    Weights are the simplex lattice (Das and Dennis 1998), which permuting objectives leaves as
    it is. Of very many records the newest thousand are compared with.
    """

    def __init__(self, num_objectives: int) -> None:
        super().__init__(num_objectives)
        self._weights_WM = _lattice(num_objectives)

    def num_before(self, vector: NDArray[np.float64]) -> int:
        values_NM = self.values_NM[-_MAX_COMPARED:]
        if not len(values_NM):
            return 0
        sorted_NM = np.sort(values_NM, axis=0)
        known_NW = self._scalarised(_doubled_ranks(sorted_NM, values_NM))
        mine_W = self._scalarised(_doubled_ranks(sorted_NM, vector[None]))[0]
        sorted_NW = np.sort(known_NW, axis=0)
        place = min(
            int(np.searchsorted(column, mine))
            for column, mine in zip(sorted_NW.T, mine_W, strict=True)
        )
        places_NW = [
            np.searchsorted(column, known)
            for column, known in zip(sorted_NW.T, known_NW.T, strict=True)
        ]
        places_N = np.min(places_NW, axis=0)
        share = np.count_nonzero(places_N < place) / len(values_NM)
        return round(share * len(self))

    def _scalarised(self, ranks_NM: NDArray[np.int64]) -> NDArray[np.int64]:
        weighted_NWM = ranks_NM[:, None, :] * self._weights_WM[None]
        scalars: NDArray[np.int64] = _LARGEST * weighted_NWM.max(axis=2) + weighted_NWM.sum(axis=2)
        return scalars


ORDERS: dict[str, type[RankOrder] | type[NicheOrder]] = {"ranks": RankOrder, "niches": NicheOrder}


def get_order(name: str) -> type[RankOrder] | type[NicheOrder]:
    """Raises `UserError` for an unknown name; lists the valid ones."""
    if name not in ORDERS:
        raise unknown_name("order", name, ORDERS)
    return ORDERS[name]


def _dominated(vector: NDArray[np.float64], others_NM: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,): which rows `vector` dominates."""
    return np.all(vector <= others_NM, axis=1) & np.any(vector < others_NM, axis=1)


def _doubled_ranks(
    sorted_NM: NDArray[np.float64], rows_KM: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(K, M) in [0, 2N]: twice the records below each value, equal ones counting half."""
    columns = [
        np.searchsorted(known, values, side="left") + np.searchsorted(known, values, side="right")
        for known, values in zip(sorted_NM.T, rows_KM.T, strict=True)
    ]
    return np.stack(columns, axis=1).astype(np.int64)


def _lattice(num_objectives: int) -> NDArray[np.int64]:
    """(W, M) weights, positive, of one sum in every row, closed under permutation."""
    divisions = 1
    while (
        divisions < _MAX_DIVISIONS
        and math.comb(divisions + num_objectives, num_objectives - 1) <= _NUM_WEIGHTS
    ):
        divisions += 1
    bars = itertools.combinations(range(divisions + num_objectives - 1), num_objectives - 1)
    counts = [np.diff([-1, *places, divisions + num_objectives - 1]) - 1 for places in bars]
    return np.array(counts, dtype=np.int64) + 1
