"""Find non-dominated vectors, those that nobody should ignore. NumPy only; all is minimised.

Names: `_order` holds indices, `_rank` holds one value per item.
Shape suffixes: N items, M objectives, U distinct items, C items of one chunk.

`a` dominates `b` iff `a <= b` in every objective and `a < b` in at least one. Hence
- equal vectors do not dominate each other: duplicates share one fate and all are kept;
- infinities compare as numbers do: `inf` is the worst value there is, `-inf` the best;
- a vector that holds a NaN is incomparable evidence: it dominates nothing, is never
  non-dominated, and is ranked behind every vector without one.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Pairs compared at once: one boolean matrix of 4 MB, small enough to stay near the cache.
_MAX_PAIRS = 1 << 22


def dominates(first: ArrayLike, second: ArrayLike) -> bool:
    """Tell whether vector `first` dominates vector `second`; False if either holds a NaN."""
    first_M, second_M = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    return bool(np.all(first_M <= second_M) and np.any(first_M < second_M))


def non_dominated(values_NM: ArrayLike) -> NDArray[np.bool_]:
    """Return the mask (N,) of the vectors that no other dominates.

    `values_NM` is (N, M), minimised. Equals `non_domination_rank(values_NM) == 0`, but
    compares each vector with the front found so far instead of with all before it.
    """
    array_NM = _as_matrix(values_NM)
    mask_N = np.zeros(len(array_NM), dtype=bool)
    valid_order, distinct_UM, inverse = _distinct_sorted(array_NM)
    if not len(valid_order):
        return mask_N
    num_distinct = len(distinct_UM)
    kept_U = np.zeros(num_distinct, dtype=bool)
    front_order = np.empty(0, dtype=np.intp)
    start = 0
    while start < num_distinct:
        size = max(1, min(512, _MAX_PAIRS // max(1, len(front_order))))
        chunk_order = np.arange(start, min(start + size, num_distinct))
        start += size
        if len(front_order):
            beaten_C = _covered(distinct_UM[front_order], distinct_UM[chunk_order]).any(axis=1)
            chunk_order = chunk_order[~beaten_C]
        chunk_CM = distinct_UM[chunk_order]
        earlier_CC = np.tri(len(chunk_order), k=-1, dtype=bool)
        chunk_order = chunk_order[~(_covered(chunk_CM, chunk_CM) & earlier_CC).any(axis=1)]
        front_order = np.concatenate([front_order, chunk_order])
    kept_U[front_order] = True
    mask_N[valid_order] = kept_U[inverse]
    return mask_N


def non_domination_rank(values_NM: ArrayLike) -> NDArray[np.intp]:
    """Return ranks (N,) by peeling: 0 for the front, 1 for the front of the rest, and so on.

    `values_NM` is (N, M), minimised. The rank of a vector is the length of the longest
    chain of vectors that dominate one another down to it, so in lexicographic order it is
    one more than the largest rank among those that dominate it. Vectors with a NaN come
    after the last front, and never at rank 0.
    """
    array_NM = _as_matrix(values_NM)
    valid_order, distinct_UM, inverse = _distinct_sorted(array_NM)
    num_distinct = len(distinct_UM)
    rank_U = np.zeros(num_distinct, dtype=np.intp)
    start = 0
    while start < num_distinct:
        size = max(1, min(256, _MAX_PAIRS // max(1, start)))
        stop = min(start + size, num_distinct)
        chunk_CM = distinct_UM[start:stop]
        if start:
            # Worst rank first: the first vector that dominates is the one that decides.
            earlier_order = np.argsort(-rank_U[:start], kind="stable")
            dominated = _covered(distinct_UM[earlier_order], chunk_CM)
            first_C = dominated.argmax(axis=1)
            decisive_C = rank_U[earlier_order][first_C] + 1
            any_C = dominated[np.arange(stop - start), first_C]
            rank_U[start:stop] = np.where(any_C, decisive_C, 0)
        within_CC = _covered(chunk_CM, chunk_CM)
        chunk_rank = rank_U[start:stop]  # a view: filled in place, in lexicographic order
        for index in range(1, stop - start):
            dominators = within_CC[index, :index]
            if dominators.any():
                chunk_rank[index] = max(chunk_rank[index], chunk_rank[:index][dominators].max() + 1)
        start = stop
    worst = int(rank_U.max()) + 1 if num_distinct else 1
    rank_N = np.full(len(array_NM), worst, dtype=np.intp)
    rank_N[valid_order] = rank_U[inverse]
    return rank_N


def non_dominated_order(values_NM: ArrayLike) -> NDArray[np.intp]:
    """Return the indices of the non-dominated vectors, sorted by value, first objective first."""
    array_NM = _as_matrix(values_NM)
    front_order = np.flatnonzero(non_dominated(array_NM))
    return front_order[np.lexsort(array_NM[front_order].T[::-1])]


def _as_matrix(values_NM: ArrayLike) -> NDArray[np.float64]:
    array_NM = np.asarray(values_NM, dtype=np.float64)
    if array_NM.ndim != 2 or array_NM.shape[1] == 0:
        raise ValueError(
            "`values_NM` must be two-dimensional with at least one objective, got shape "
            f"{array_NM.shape}; stack one row per item, np.empty((0, M)) for none"
        )
    return array_NM


def _distinct_sorted(
    array_NM: NDArray[np.float64],
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
    """Return the indices of the rows without NaN, their distinct values, and which one each equals.

    The distinct values are in lexicographic order. -0.0 and 0.0 are equal.
    """
    valid_order = np.flatnonzero(~np.isnan(array_NM).any(axis=1))
    valid = array_NM[valid_order] + 0.0
    sorted_order = np.lexsort(valid.T[::-1])
    ordered = valid[sorted_order]
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    inverse = np.empty(len(ordered), dtype=np.intp)
    inverse[sorted_order] = np.cumsum(new) - 1
    return valid_order, ordered[new], inverse


def _covered(by_FM: NDArray[np.float64], rows_CM: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(C, F): whether row c is at least as bad as `by` f in every objective but the first.

    Rows are distinct and in lexicographic order, so for an f that stands before c the first
    objective agrees already, and equality in all is impossible: this is domination.
    """
    covered_CF = np.ones((len(rows_CM), len(by_FM)), dtype=bool)
    for column in range(1, rows_CM.shape[1]):
        covered_CF &= by_FM[None, :, column] <= rows_CM[:, None, column]
    return covered_CF
