"""Keeps non-domination ranks of records that grow one by one; everything is minimised.

Shape suffixes: N records, M objectives, P records that push others back.
"""

import numpy as np
from numpy.typing import NDArray


class RankedRecords:
    """Keeps vectors without a NaN, and their non-domination ranks (0 is the front).

    A new record costs one comparison with all others, O(N M), and pushes others back level by
    level (Li et al. 2014, "Efficient non-domination level update").

    values_NM: the records in the order they came. rank_N: the rank of each.
    """

    def __init__(self, num_objectives: int) -> None:
        self.values_NM: NDArray[np.float64] = np.empty((0, num_objectives))
        self.rank_N: NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def __len__(self) -> int:
        return len(self.rank_N)

    def num_before(self, vector: NDArray[np.float64]) -> int:
        """Return how many records have a better rank than `vector` would have."""
        return int(np.count_nonzero(self.rank_N < self._rank_of(vector)))

    def add(self, vector: NDArray[np.float64]) -> None:
        """Add a record (M,), and push back what it dominates."""
        level = rank = self._rank_of(vector)
        moved_N: NDArray[np.bool_] = np.zeros(len(self), dtype=bool)  # each by one level
        pushers_PM = vector[None]
        while len(pushers_PM):
            level_order = np.flatnonzero(self.rank_N == level)
            staying_order = level_order
            for pusher in pushers_PM:
                pushed = _dominated(pusher, self.values_NM[staying_order])
                staying_order = staying_order[~pushed]
            if not len(staying_order):
                # The whole level moves, and all behind with it: going on level by level would
                # take N steps in a chain of N records, as of one objective.
                moved_N |= self.rank_N >= level
                break
            pushed_order = np.setdiff1d(level_order, staying_order)
            moved_N[pushed_order] = True
            pushers_PM = self.values_NM[pushed_order]
            level += 1
        self.values_NM = np.vstack([self.values_NM, vector])
        self.rank_N = np.append(self.rank_N + moved_N, rank)

    def _rank_of(self, vector: NDArray[np.float64]) -> int:
        """Return one more than the worst rank among the records that dominate `vector`."""
        no_worse_N = np.all(self.values_NM <= vector, axis=1)
        dominates_N = no_worse_N & np.any(self.values_NM < vector, axis=1)
        return int(self.rank_N[dominates_N].max(initial=-1)) + 1


def _dominated(vector: NDArray[np.float64], others_NM: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (N,): which rows `vector` dominates."""
    return np.all(vector <= others_NM, axis=1) & np.any(vector < others_NM, axis=1)
