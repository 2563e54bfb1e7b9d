"""Measure agreement among tasks by layer, over seeds.

The claim of DiSparse (Sun et al. 2022, figure 3) is that tasks agree on the weights of the first
shared layers and part company deeper. It is measured here by Spearman's correlation of agreement
with a layer's place along the main path, one per trained model, and by its t interval over seeds.
Projection shortcuts are beside the path and are left out of the correlation.

Networks of different depth are compared by relative depth: 0 is the first shared convolution, 1
the last.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.labels import is_shortcut
from analysis.statistics.comparing.comparison import Interval, correlation_with_depth, mean_interval
from analysis.studies.masks import TrialMasks, read_masks
from analysis.studies.systems_by_seed import Grid, System
from trainables.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Hold values along the main path: `depth_N` from 0 to 1, `values_N` in [0, 1]."""

    depth_N: NDArray[np.float64]
    values_N: NDArray[np.float64]

    def at(self, depth: float) -> float:
        """Return the value at a depth, between two layers by linear interpolation."""
        return float(np.interp(depth, self.depth_N, self.values_N))


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthCorrelation:
    """Hold Spearman's correlation with depth by seed, without the seeds that have none.

    interval: Student's t of the mean, cut to [-1, 1]; infinite for one seed, NaN for none.
    """

    by_seed: Mapping[int, float]
    interval: Interval

    @property
    def mean(self) -> float:
        """Return the mean over seeds; NaN without seeds."""
        values = self.by_seed.values()
        return math.fsum(values) / len(values) if values else math.nan


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemLayers:
    """Hold a system's masks, one per seed, and the correlation of agreement with depth.

    The correlation is empty without votes.
    """

    system: System
    masks: Mapping[int, TrialMasks]
    depth: DepthCorrelation

    @property
    def votes(self) -> tuple[TrialMasks, ...]:
        """Return the masks of the trials whose tasks voted."""
        return tuple(m for m in self.masks.values() if m.agreement)


def read_layers(grid: Grid) -> tuple[SystemLayers, ...]:
    """Read the layers of the sparse systems whose trials left masks.

    Raises `UserError` where none did.
    """
    found = []
    for system in grid.systems:
        masks = {
            int(m.trial.seed or 0): m
            for m in read_masks(grid.study, system.trials.values())
            if m.density < 1.0
        }
        if not masks:
            continue
        depth = correlate({seed: m.agreement for seed, m in masks.items()})
        found.append(SystemLayers(system=system, masks=masks, depth=depth))
    if not found:
        raise UserError(
            f"study {grid.study.name!r} must have sparse trials that left a "
            f"{grid.study.directory}/trials/*/summary.json, got none; say where its "
            "folder is with --storage, or run sparse methods"
        )
    return tuple(found)


def correlate(
    values: Mapping[int, Mapping[str, float]], confidence: float = 0.95
) -> DepthCorrelation:
    """Correlate values by layer, in the model's order, with depth, for each seed."""
    found = {
        seed: correlation_with_depth(list(curve(layers).values_N))
        for seed, layers in values.items()
    }
    known = {seed: rho for seed, rho in found.items() if math.isfinite(rho)}
    interval = mean_interval(list(known.values()), confidence)
    return DepthCorrelation(by_seed=known, interval=_bounded(interval))


def mean_path(values: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over trials of values by layer, along the main path of the first."""
    trials = list(values)
    return {
        name: float(np.mean([layers[name] for layers in trials if name in layers]))
        for name in main_path(list(trials[0]) if trials else [])
    }


def main_path(names: Sequence[str]) -> list[str]:
    """Return the names without those of shortcuts, in the given order."""
    return [name for name in names if not is_shortcut(name)]


def curve(values: Mapping[str, float]) -> Curve:
    """Return the values along the main path, in the order of the layers given."""
    names = main_path(list(values))
    depth_N = np.linspace(0, 1, len(names)) if len(names) > 1 else np.zeros(len(names))
    return Curve(depth_N=depth_N, values_N=np.array([values[name] for name in names]))


def places(names: Sequence[str]) -> list[float]:
    """Return the depths of the layers on the main path of `names`, 0 to 1, in their order."""
    count = len(main_path(names))
    return [index / (count - 1) if count > 1 else 0.0 for index in range(count)]


def mean_curve(masks: Sequence[TrialMasks]) -> tuple[Curve, NDArray[np.float64]]:
    """Return one system's mean over trials and the sample deviation (N,), 0 for one trial."""
    curves = [curve(m.agreement) for m in masks]
    length = max(len(c.depth_N) for c in curves)
    stacked_SN = np.array([c.values_N for c in curves if len(c.depth_N) == length])
    deviation_N = stacked_SN.std(axis=0, ddof=1) if len(stacked_SN) > 1 else np.zeros(length)
    depth_N = next(c.depth_N for c in curves if len(c.depth_N) == length)
    return Curve(depth_N=depth_N, values_N=stacked_SN.mean(axis=0)), deviation_N


def _bounded(interval: Interval) -> Interval:
    """Cut an interval to [-1, 1], where a correlation lies; unbounded stays unbounded."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return interval
    return Interval(low=max(-1.0, interval.low), high=min(1.0, interval.high))
