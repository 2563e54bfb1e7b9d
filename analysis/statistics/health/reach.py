"""Tell whether a search went on long enough, and whether its space reaches far enough."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.comparing.comparison import holm
from analysis.studies.trials import Trial

LAST_SHARE = 0.25  # of the trials: the end of a search
EDGE = 0.05  # of a range, at either end, on the scale it is drawn on
MIN_TRIALS = 8
_SIGNIFICANCE = 0.05
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class LateGain:
    """Hold which share of the final hypervolume the last `num_trials` of `total` trials added."""

    num_trials: int
    total: int
    share: float


def late_gain(hypervolume_N: NDArray[Any]) -> LateGain | None:
    """Return what the last quarter of the trials added; None for fewer than 8 trials.

    hypervolume_N: that of the first 1, 2, … N trials that ran to their end.
    """
    total = len(hypervolume_N)
    if total < MIN_TRIALS or not hypervolume_N[-1] > 0:
        return None
    num_trials = math.ceil(LAST_SHARE * total)
    before, after = float(hypervolume_N[total - num_trials - 1]), float(hypervolume_N[-1])
    return LateGain(num_trials=num_trials, total=total, share=(after - before) / after)


@dataclass(frozen=True, kw_only=True, slots=True)
class AtEdge:
    """Hold a range at whose end ("lower" or "upper") the best settings sit.

    count: the members of the front within the outer `EDGE`, of the `num_members` that have it.
    """

    parameter: str
    end: str
    low: float
    high: float
    count: int
    num_members: int


def at_edges(members: Sequence[Trial], ranges: Mapping[str, Mapping[str, Any]]) -> list[AtEdge]:
    """Return the ranges that the front's members ask to be widened, the most pressing first.

    More members sit within the outer 5 % at one end than draws from the whole range would put
    there: a binomial tail, below 0.05 after Holm's correction for both ends of all ranges.

    ranges: by parameter `low`, `high`, and whether it is drawn in its logarithm (`log`) and of
    whole numbers (`whole`). One of fewer than four whole numbers has no inside, and is left out.
    """
    tested: list[tuple[float, AtEdge]] = []
    for name, known in ranges.items():
        low, high, log = float(known["low"]), float(known["high"]), bool(known.get("log"))
        whole = bool(known.get("whole"))
        if not low < high or (whole and round(high - low) + 1 < 4):
            continue
        drawn = [t.params.get(name) for t in members]
        values = [float(v) for v in drawn if v is not None and _is_within(v, low, high)]
        if not values:
            continue
        places = [_place(v, low, high, log=log) for v in values]
        for end, near in (
            ("lower", [p <= EDGE + _ROUNDING for p in places]),
            ("upper", [p >= 1 - EDGE - _ROUNDING for p in places]),
        ):
            chance = edge_chance(low, high, end, log=log) if whole else EDGE
            one = AtEdge(
                parameter=name,
                end=end,
                low=low,
                high=high,
                count=sum(near),
                num_members=len(near),
            )
            tested.append((float(stats.binom.sf(sum(near) - 1, len(near), chance)), one))
    adjusted = holm([p_value for p_value, _ in tested])
    found = [(p, one) for p, (_, one) in zip(adjusted, tested, strict=True) if p < _SIGNIFICANCE]
    return [one for _, one in sorted(found, key=lambda f: (f[0], f[1].parameter, f[1].end))]


def edge_chance(low: float, high: float, end: str, *, log: bool) -> float:
    """Return how likely a draw of a whole number lies within the outer `EDGE` at one end.

    As Optuna draws it: uniformly on the scale from half below the range to half above it, and
    rounded. So of 2 … 15 on the logarithmic scale, 2 alone is drawn with 22 %.
    """
    share = EDGE + _ROUNDING if end == "lower" else 1 - EDGE - _ROUNDING
    last = low * (high / low) ** share if log else low + share * (high - low)
    inner = math.floor(last) + 0.5 if end == "lower" else math.ceil(last) - 0.5
    place = _place(inner, low - 0.5, high + 0.5, log=log)
    return place if end == "lower" else 1 - place


def _place(value: float, low: float, high: float, *, log: bool) -> float:
    """Return where a value lies on the range, 0 to 1, on the scale it is drawn on."""
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _is_within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
