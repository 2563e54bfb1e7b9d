"""Find the trials on a study's joint front, and each task's own front, among those `eligible`.

Selection is on `val` alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.choice import front_members, unmeasured
from analysis.statistics.conditions import unknown_metric
from analysis.statistics.eligible import dense_trials, eligible, infeasible
from analysis.statistics.pareto import non_dominated_order
from analysis.statistics.uncertainty.attainment import attainment_surfaces, common_seeds
from analysis.statistics.uncertainty.confirmed import Confirmed, confirmations
from analysis.studies.constraints import Bound, axis_bound, off_axis_bounds, read_bounds
from analysis.studies.trials import Study, Trial
from trainables import report

_SHOWN_COSTS = ("cost/density", "cost/latency_fraction", "cost/latency_ms", "cost/model_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFront:
    """Hold quality against cost for one task: two objectives, in their own directions.

    dense: dense trials that ran to the end, a level to compare with whether or not they met the
    constraints. confirmed: those of `trials` and `dense` that were trained at fresh seeds.
    attainment: by percentage of the seeds at which the joint front was trained, the surface that is
    attained, see `attainment`.
    """

    quality: str  # full name, "val/segmentation/miou"
    cost: str
    trials: tuple[Trial, ...]  # all eligible
    front: tuple[Trial, ...]  # non-dominated in (cost, quality), cheapest first
    random_front: tuple[Trial, ...]  # the same among the Random trials alone
    dense: tuple[Trial, ...]  # the dense baseline's trials
    infeasible: tuple[Trial, ...] = ()  # those that ran to the end and missed a constraint
    quality_bound: Bound | None = None  # of the study's constraints
    cost_bound: Bound | None = None
    other_bounds: tuple[Bound, ...] = ()  # on the task's other metrics and on other costs
    confirmed: tuple[Confirmed, ...] = ()
    attainment: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]] = field(
        default_factory=dict
    )

    @property
    def task(self) -> str:
        """Return the task's name."""
        return report.task_of(self.quality)

    @property
    def dense_level(self) -> float | None:
        """Return the mean quality of the dense trials, None without any."""
        values = [trial.metrics[self.quality] for trial in self.dense]
        return float(np.mean(values)) if values else None

    @property
    def fresh_runs(self) -> tuple[Trial, ...]:
        """Return the trainings at fresh seeds."""
        return tuple(run for one in self.confirmed for run in one.runs.values())

    def points(self, trials: Iterable[Trial]) -> tuple[list[float], list[float]]:
        """Return the costs and the qualities of `trials`."""
        pairs = [(t.metrics[self.cost], t.metrics[self.quality]) for t in trials]
        return [cost for cost, _ in pairs], [quality for _, quality in pairs]


def ineligible_reason(trial: Trial, objectives: Sequence[str]) -> str | None:
    """Say why a complete trial cannot be on a front; None if it can."""
    bad = report.non_finite(trial.metrics, objectives)
    if trial.status != "complete" or not bad:
        return None
    absent = [name for name in bad if name not in trial.metrics]
    if absent:
        return f"complete, but it never reported {', '.join(absent)}"
    return f"complete, but {', '.join(f'{n} is {trial.metrics[n]}' for n in bad)}"


def shown_costs(cost: str, trials: Iterable[Trial]) -> tuple[str, ...]:
    """Return the costs that are shown beside `cost`, which is first: those that a trial reports."""
    measured = {name for trial in trials for name in trial.metrics}
    return (cost, *(name for name in _SHOWN_COSTS if name in measured and name != cost))


def minimised_values(trials: Sequence[Trial], names: Sequence[str]) -> NDArray[np.float64]:
    """Return (N, M) of the named metrics, turned so that smaller is better; NaN if missing."""
    rows = [
        [report.minimised(name, trial.metrics.get(name, float("nan"))) for name in names]
        for trial in trials
    ]
    return np.asarray(rows, dtype=float).reshape(len(trials), len(names))


def joint_front(study: Study) -> tuple[Trial, ...]:
    """Return the eligible trials that no other dominates in all objectives, cheapest first."""
    return front_members(eligible(study), study.objectives)


def against(study: Study, cost: str) -> Study:
    """Return the study with another cost among its objectives, to draw fronts against it.

    A note says how many complete trials lack it. Raises `UserError` for what is no cost that less
    of is better, and where no complete trial has measured it.
    """
    metrics = report.METRICS.values()
    valid = [m.name for m in metrics if m.name.startswith("cost/") and m.direction == "minimize"]
    complete = study.with_status("complete")
    if cost not in valid:
        measured = {name for trial in complete for name in trial.metrics}
        costs = [name for name in valid if name in measured]
        raise unknown_metric(cost, costs or valid, "cost metric")
    lacking = sum(bool(report.non_finite(trial.metrics, [cost])) for trial in complete)
    if complete and lacking == len(complete):
        raise unmeasured(cost, "complete trial")
    note = (
        f"{lacking} of {len(complete)} complete trials did not measure {cost}: they are left out."
    )
    notes = (*study.notes, note) if lacking else study.notes
    return replace(study, objectives=(*study.qualities, cost), notes=notes)


def task_fronts(study: Study) -> tuple[TaskFront, ...]:
    """Compute one front per task, in the order of the objectives."""
    trials, missed = eligible(study), infeasible(study)
    bounds = read_bounds(study.facts)
    cost_bound = axis_bound(bounds, study.cost)
    dense = dense_trials(study)
    random = tuple(t for t in trials if t.method == "random")
    known = confirmations(study)
    names = dict.fromkeys(trial.trial for trial in (*trials, *dense))
    confirmed = tuple(known[name] for name in names if name in known)
    ended = tuple(one for one in confirmed if one.runs)
    compared = _compared(confirmed, {t.trial for t in (*joint_front(study), *dense)})
    return tuple(
        TaskFront(
            quality=quality,
            cost=study.cost,
            trials=trials,
            front=_front(trials, study.cost, quality),
            random_front=_front(random, study.cost, quality),
            dense=dense,
            infeasible=missed,
            quality_bound=axis_bound(bounds, quality),
            cost_bound=cost_bound,
            other_bounds=off_axis_bounds(bounds, quality, study.cost),
            confirmed=ended,
            attainment=attainment_surfaces(compared, study.cost, quality),
        )
        for quality in study.qualities
    )


def attainment_line(
    costs: Sequence[float], qualities: Sequence[float], right_edge: float
) -> tuple[list[float], list[float]]:
    """Return the best quality reached at or below every cost, as the corners of a staircase.

    `costs` ascend and qualities improve along them, as on a front with its cost minimised,
    whichever way the quality is measured. From each member the line runs level to the next
    one's cost, where it steps to that one's quality; the last level reaches `right_edge`.
    """
    xs: list[float] = []
    ys: list[float] = []
    for index, (cost, quality) in enumerate(zip(costs, qualities, strict=True)):
        if index:
            xs.append(cost)
            ys.append(qualities[index - 1])
        xs.append(cost)
        ys.append(quality)
    if xs and right_edge > xs[-1]:
        xs.append(right_edge)
        ys.append(ys[-1])
    return xs, ys


def _compared(confirmed: Sequence[Confirmed], core: Collection[str]) -> list[Confirmed]:
    """Return those of the trials `core` and the others that were trained at all of their seeds.

    The others are neighbours of the front, which are trained after it.
    """
    seeds = set(common_seeds([one for one in confirmed if one.trial.trial in core]))
    return [o for o in confirmed if o.trial.trial in core or seeds <= set(o.tried)]


def _front(trials: Sequence[Trial], cost: str, quality: str) -> tuple[Trial, ...]:
    order = non_dominated_order(minimised_values(trials, (cost, quality)))
    return tuple(trials[index] for index in order)
