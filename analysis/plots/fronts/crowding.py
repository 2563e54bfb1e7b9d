"""Keep marks readable: values far from all others, and marks that lie on one another."""

from collections import Counter
from collections.abc import Sequence

# The axis of the others is at least a quarter of what it would be without the outlier ...
_SHARE = 0.25
# ... and at most a quarter of the values can be outliers.
_OUTLYING = 0.25
_CELL = 0.014  # of an axis: marks closer than this lie on one another
_GROWTH, _LARGEST = 0.45, 2.35


def without_outliers(values: Sequence[float], *, high_is_worse: bool) -> list[float]:
    """Return the values that an axis makes room for: all but outliers on the worse side.

    An outlier is further from the best value than four times the range of the best three quarters.
    One that is better than all others is what a study looks for, so it always has its place.
    """
    ordered = sorted(values, reverse=not high_is_worse)
    inner = ordered[: len(ordered) - int(_OUTLYING * len(ordered))]
    reach = abs(inner[-1] - inner[0]) / _SHARE if inner else 0.0
    if reach == 0:  # the others are one value, and a line wherever the outlier is
        return list(values)
    return [value for value in values if abs(value - ordered[0]) <= reach]


def nested_sizes(places: Sequence[tuple[float, float]]) -> list[float]:
    """Return a factor of size per mark, so that none is hidden under those drawn after it.

    places: (x, y) as shares of the axes, in the order of drawing. Of marks on one place the last
    keeps its size, and each one under it is larger, up to a limit.
    """
    cells = [(round(x / _CELL), round(y / _CELL)) for x, y in places]
    above: Counter[tuple[int, int]] = Counter()
    factors = []
    for cell in reversed(cells):
        factors.append(min(1 + _GROWTH * above[cell], _LARGEST))
        above[cell] += 1
    return factors[::-1]
