"""What a search is worth: hypervolume and IGD+ of its full-length, feasible trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.comparing.comparison import Comparison, compare, holm
from analysis.statistics.indicators import Normalisation, hypervolume_trajectory
from analysis.statistics.pareto import non_dominated
from benchmarks.search.simulator import Trace

QUARTERS = (0.25, 0.5, 0.75, 1.0)
_MAX_FRONT = 1000  # points of the true front that IGD+ averages over


@dataclass(frozen=True, kw_only=True, slots=True)
class Trajectory:
    """Hypervolume after each trial that raised it: a staircase from 0 at epoch 0."""

    epochs_K: tuple[int, ...]
    hypervolume_K: tuple[float, ...]

    def at(self, epochs: float) -> float:
        """With that many epochs used."""
        index = int(np.searchsorted(self.epochs_K, epochs, side="right"))
        return self.hypervolume_K[index - 1] if index else 0.0

    @property
    def final(self) -> float:
        """The score at the end of the budget."""
        return self.hypervolume_K[-1] if self.hypervolume_K else 0.0

    def reaches(self, level: float) -> int | None:
        """The first epoch with at least that hypervolume; None if it never has."""
        for epochs, value in zip(self.epochs_K, self.hypervolume_K, strict=True):
            if value >= level:
                return epochs
        return None


def trajectory(trace: Trace, normalisation: Normalisation) -> Trajectory:
    """Of the feasible completions, by their true values."""
    feasible = [c for c in trace.completions if c.feasible]
    if not feasible:
        return Trajectory(epochs_K=(), hypervolume_K=())
    volumes = hypervolume_trajectory([c.worth for c in feasible], normalisation)
    raised = np.diff(volumes, prepend=0.0) > 0
    return Trajectory(
        epochs_K=tuple(c.epochs for c, up in zip(feasible, raised, strict=True) if up),
        hypervolume_K=tuple(volumes[raised].tolist()),
    )


def igd_plus(trace: Trace, front_FM: ArrayLike, normalisation: Normalisation) -> float:
    """Mean distance, counting only what is worse, from the true front to the completions, on the
    common scale; lower is better, infinite where nothing feasible is complete.

    Ishibuchi et al. 2015. Of a front of more than 1,000 points every k-th is taken.
    """
    found = np.array([c.worth for c in trace.completions if c.feasible])
    if not len(found):
        return float("inf")
    reference_FM = normalisation.apply(front_FM)
    reference_FM = reference_FM[:: -(-len(reference_FM) // _MAX_FRONT)]
    scaled = normalisation.apply(found)
    return float(moocore.igd_plus(scaled[non_dominated(scaled)], ref=reference_FM))


def mean_curve(trajectories: Sequence[Trajectory], budget_epochs: int) -> NDArray[np.float64]:
    """(budget,): mean hypervolume over seeds after 1, 2, … epochs."""
    grid = np.arange(1, budget_epochs + 1)
    curves = []
    for found in trajectories:
        steps = np.array([0.0, *found.hypervolume_K])
        curves.append(steps[np.searchsorted(found.epochs_K, grid, side="right")])
    mean: NDArray[np.float64] = np.mean(curves, axis=0)
    return mean


def epochs_to_reach(curve_E: ArrayLike, level: float) -> int | None:
    """The first epoch, from 1, at which the curve is at least `level`; None if it never is."""
    (reached,) = np.nonzero(np.asarray(curve_E) >= level)
    return int(reached[0]) + 1 if len(reached) else None


def against_peers(
    ours: Mapping[str, Sequence[float]], peers: Mapping[str, Sequence[float]]
) -> dict[str, tuple[Comparison, float]]:
    """Ours minus each peer over paired seeds, and Holm's p over the peers; positive: ours is
    better.

    ours: by peer, at the seeds of that peer.
    """
    found = {name: compare(ours[name], values_N) for name, values_N in peers.items()}
    corrected = holm([comparison.p_value for comparison in found.values()])
    return {
        name: (comparison, float(p))
        for (name, comparison), p in zip(found.items(), corrected, strict=True)
    }
