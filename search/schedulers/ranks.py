"""Non-domination ranks of records that grow one by one; everything is minimised.

Shape suffixes: N records, M objectives.
"""

import numpy as np
from numpy.typing import NDArray

_FIRST_CAPACITY = 16


class RankedRecords:
    """Vectors without a NaN, and their non-domination ranks, kept up to date.

    Those of one rank do not come before one another. A new record costs one comparison with all
    others, O(N M), and pushes others back level by level (Li et al. 2014, "Efficient
    non-domination level update").
    Where it pushes a whole level, all that is behind goes with it: in a chain of N records, as
    of one objective, a step for every level would make N of them.
    """

    def __init__(self, num_objectives: int) -> None:
        self._array = np.empty((_FIRST_CAPACITY, num_objectives))
        self._ranks = np.empty(_FIRST_CAPACITY, dtype=np.intp)
        self._num = 0

    def __len__(self) -> int:
        return self._num

    @property
    def values_NM(self) -> NDArray[np.float64]:
        """The records in the order they came."""
        return self._array[: self._num]

    @property
    def rank_N(self) -> NDArray[np.intp]:
        """Of every record, 0 for the front."""
        return self._ranks[: len(self)]

    def num_before(self, vector: NDArray[np.float64]) -> int:
        """How many have a better rank than `vector` would have."""
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
        if self._num == len(self._array):
            self._array = np.concatenate([self._array, np.empty_like(self._array)])
            self._ranks = np.concatenate([self._ranks, np.empty_like(self._ranks)])
        self._array[self._num], self._ranks[self._num] = vector, rank
        self._num += 1

    def _rank_of(self, vector: NDArray[np.float64]) -> int:
        """One more than the worst rank among those that dominate it."""
        values_NM = self.values_NM
        dominates_N = (values_NM <= vector).all(axis=1) & (values_NM < vector).any(axis=1)
        return int(self.rank_N[dominates_N].max(initial=-1)) + 1


def _dominated(vector: NDArray[np.float64], others_NM: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,): which rows `vector` dominates."""
    return np.all(vector <= others_NM, axis=1) & np.any(vector < others_NM, axis=1)
