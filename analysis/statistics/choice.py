"""Choose one model of a front: among those that meet bounds, the best in a metric or the knee.

`python -m analysis pick` and `python -m search ship` both choose with this module. It needs NumPy,
and of `trainables` the names, units and directions of metrics. It never looks at test.

**The knee.** Every objective is scaled to [0, 1] over the front, 0 at its best. Let c be the scaled
cost and l the mean over tasks of the scaled losses, scaled to [0, 1] again. The knee is the member
that lies farthest below the line from (0, 1), the cheapest, to (1, 0), the best: it has the least
c + l. With one task that is the knee of Das 1999 ("On characterizing the 'knee' of the Pareto curve
based on normal-boundary intersection"); Branke et al. 2004 ("Finding knees in multi-objective
optimization") discuss it beside others. With several tasks we deviate from his hyperplane through
the extremes: tasks are mostly best in the same dense model, so its extremes coincide, and tasks
together would outweigh the cost. Δ_T takes the mean over tasks too.

Bounds do not move the knee's scale: a tighter bound that the chosen model meets changes nothing.
Shape suffixes: N members, T tasks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.labels import difference
from analysis.statistics.conditions import Condition, metric_name
from analysis.statistics.pareto import non_dominated
from trainables import report
from trainables.errors import UserError

_SAME = 1e-9  # difference of two depths that are a tie
ENOUGH_FRESH = 2  # seeds: one may be as lucky as that of the selection


class Candidate(Protocol):
    """Describes what a choice reads of a trial."""

    @property
    def trial(self) -> str:
        """Return its name."""
        ...

    @property
    def number(self) -> int:
        """Return its number, which settles ties."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """Return its metrics by full name."""
        ...


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice(Generic[C]):
    """Hold the chosen trial and what it was chosen from.

    front: all members, cheapest first. admitted: those that meet every bound and, where `best` is
    given, report it. best: the metric that decided, None for the knee. depth: how far below the
    line of the knee the trial lies, from 1 down; negative above it. by_fresh: whether metrics are
    means over fresh seeds, whose front is not that of the search.
    """

    trial: C
    front: tuple[C, ...]
    admitted: tuple[C, ...]
    conditions: tuple[Condition, ...]
    best: str | None
    depth: float
    by_fresh: bool = False

    def leader(self, name: str) -> C:
        """Return the front's member that is best in an objective; of equals the lowest number."""
        return min(self.front, key=lambda t: (report.minimised(name, t.metrics[name]), t.number))


def front_named(*, by_fresh: bool) -> str:
    """Name the front that is meant: members and their number differ between the two."""
    return "the front of means over fresh seeds" if by_fresh else "the front"


def mean_metrics(trials: Sequence[Candidate]) -> dict[str, float]:
    """Return the mean of every metric that is finite in all trials; empty without trials."""
    return _mean([trial.metrics for trial in trials])


def fresh_means(
    trials: Sequence[C],
    objectives: Sequence[str],
    fresh: Mapping[str, Sequence[tuple[str, Mapping[str, float]]]],
    references: Sequence[C] = (),
) -> dict[str, dict[str, float]]:
    """Return mean metrics over fresh seeds by name, once all of the front was trained at two.

    Until then nothing: means of some do not compare with lucky values of others, and so it is where
    there are references and none has `fresh_reference`. All trainings that ran to their end count
    for the mean; a trial is left out where half of its trainings or more failed or missed a
    constraint.

    trials: complete. references: the dense ones. fresh: by name, the status and metrics of every
    training that has ended.
    """
    if references and not fresh_reference(references, fresh):
        return {}
    members = front_members(trials, objectives)
    if any(len(fresh.get(member.trial, ())) < ENOUGH_FRESH for member in members):
        return {}
    found = {}
    for trial in trials:
        ended = fresh.get(trial.trial, ())
        good = sum(status == "complete" for status, _ in ended)
        if len(ended) >= ENOUGH_FRESH and 2 * good > len(ended):
            found[trial.trial] = _mean(_reached(ended))
    return found


def fresh_reference(
    references: Sequence[C], fresh: Mapping[str, Sequence[tuple[str, Mapping[str, float]]]]
) -> dict[str, float]:
    """Return the mean metrics of the first reference with two fresh trainings; empty for none.

    fresh: as for `fresh_means`.
    """
    reached = (_reached(fresh.get(reference.trial, ())) for reference in references)
    return _mean(next((rows for rows in reached if len(rows) >= ENOUGH_FRESH), []))


def mean_of(values: Sequence[float]) -> float:
    """Return the mean, of equal values exactly that value; NaN without any."""
    if not values:
        return math.nan
    if min(values) == max(values):
        return values[0]
    return math.fsum(values) / len(values)


def front_members(trials: Sequence[C], objectives: Sequence[str]) -> tuple[C, ...]:
    """Return the trials that no other dominates in all objectives, the cheapest first.

    A trial with a missing or non-finite objective is no member.
    """
    usable = [t for t in trials if not report.non_finite(t.metrics, objectives)]
    mask = non_dominated(_minimised(usable, objectives))
    members = [trial for trial, kept in zip(usable, mask, strict=True) if kept]
    (cost,) = _costs(objectives)
    return tuple(sorted(members, key=lambda t: (t.metrics[cost], t.number)))


def knee_depth(costs_N: NDArray[np.float64], losses_NT: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far (N,) each member lies below the line of the knee; the deepest is the knee.

    Both are minimised. The value is 1 - c - l of this module's description.
    """
    return 1.0 - _scaled(costs_N) - _scaled(_scaled(losses_NT).mean(axis=1))


def choose(
    trials: Sequence[C],
    objectives: Sequence[str],
    conditions: Sequence[Condition] = (),
    best: str | None = None,
    *,
    by_fresh: bool = False,
) -> Choice[C]:
    """Choose one member of the front of `trials`, which are complete.

    objectives: full names, one quality per task and one cost. best: a metric, split-less or full.
    by_fresh: whether metrics are means over fresh seeds. Ties go to the lowest number.

    Raises `UserError` if nothing is on the front, if no member has a metric that is asked for, and
    if no member meets all bounds; it then names the nearest one.
    """
    known = {name for trial in trials for name in trial.metrics}
    deciding = None if best is None else metric_name(best, objectives, known)
    front = front_members(trials, objectives)
    if not front:
        raise UserError(
            "a model must be chosen from complete trials with finite objectives, got none of "
            f"{len(trials)}; resume the study first"
        )
    for name in (*(c.metric for c in conditions), *([deciding] if deciding else ())):
        if all(report.non_finite(t.metrics, [name]) for t in front):
            raise unmeasured(name, f"model of {front_named(by_fresh=by_fresh)}")
    admitted = tuple(t for t in front if all(c.is_met(t.metrics) for c in conditions))
    if not admitted:
        raise _none_admitted(trials, front, conditions, front_named(by_fresh=by_fresh))
    depths = _depths(front, objectives)
    if deciding is None:
        deepest = max(depths[t.number] for t in admitted)
        equal = [t for t in admitted if depths[t.number] >= deepest - _SAME]
    else:
        admitted = tuple(t for t in admitted if not report.non_finite(t.metrics, [deciding]))
        if not admitted:
            where = f"model of {front_named(by_fresh=by_fresh)} that meets the bounds"
            raise unmeasured(deciding, where)
        least = min(report.minimised(deciding, t.metrics[deciding]) for t in admitted)
        equal = [t for t in admitted if report.minimised(deciding, t.metrics[deciding]) == least]
    chosen = min(equal, key=lambda t: t.number)
    return Choice(
        trial=chosen,
        front=front,
        admitted=admitted,
        conditions=tuple(conditions),
        best=deciding,
        depth=depths[chosen.number],
        by_fresh=by_fresh,
    )


def unmeasured(name: str, where: str) -> UserError:
    """Return the error for a metric that nothing there has; it says how to have it measured.

    where: for example "complete trial", in the singular.
    """
    bare = report.without_split(name)
    remedy = "name another metric"
    if bare.startswith("cost/"):
        cost = "cost/latency_fraction" if bare.startswith("cost/latency") else bare
        remedy = (
            f"the trials of a study whose cost is {cost} measure it: `python -m search run RECIPE "
            f"--set objective.cost={cost}`"
        )
    elif bare.startswith("multitask/"):
        remedy = "trials report it where the study has a dense model to compare with"
    return UserError(f"{bare} must be known of some trial, but no {where} reports it; {remedy}")


def _costs(objectives: Sequence[str]) -> list[str]:
    return [name for name in objectives if name.startswith("cost/")]


def _minimised(trials: Sequence[Candidate], names: Sequence[str]) -> NDArray[np.float64]:
    rows = [[report.minimised(name, t.metrics[name]) for name in names] for t in trials]
    return np.asarray(rows, dtype=float).reshape(len(trials), len(names))


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale each column to [0, 1]; a constant one is 0."""
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    return np.asarray((values - low) / np.where(span > 0, span, 1.0))


def _depths(front: Sequence[Candidate], objectives: Sequence[str]) -> dict[int, float]:
    costs = _costs(objectives)
    tasks = [name for name in objectives if name not in costs]
    depth_N = knee_depth(_minimised(front, costs)[:, 0], _minimised(front, tasks))
    return {trial.number: float(depth) for trial, depth in zip(front, depth_N, strict=True)}


def _none_admitted(
    trials: Sequence[Candidate],
    front: Sequence[Candidate],
    conditions: Sequence[Condition],
    named: str,
) -> UserError:
    """Return the error that names the bounds that fail, the nearest member, and what admits it."""
    counts = [sum(c.is_met(t.metrics) for t in front) for c in conditions]
    failing = [c.text for c, count in zip(conditions, counts, strict=True) if not count]
    said = " or ".join(failing)
    if not failing:
        each = [
            f"{count} of {len(front)} models meet{'s' if count == 1 else ''} {c.text}"
            for c, count in zip(conditions, counts, strict=True)
        ]
        said = f"all bounds together: {', '.join(each)}"
    nearest = nearest_text(front, conditions)
    members = {trial.number for trial in front}
    others = [
        t.trial
        for t in sorted(trials, key=lambda t: t.number)
        if t.number not in members and all(c.is_met(t.metrics) for c in conditions)
    ]
    off = f". {others[0]} meets all bounds, but is not on the front" if others else ""
    return UserError(f"no model of {named} meets {said}. The nearest is {nearest}{off}")


def nearest_text(trials: Sequence[Candidate], conditions: Sequence[Condition]) -> str:
    """Name the trial nearest to bounds that none meets, what it misses, and what admits it.

    The nearest has the least sum of misses, each in units of the trials' range in its metric. One
    that misses a strict bound by nothing is behind all others, and so is the dense network where a
    bound on a cost leaves it out: it would be near to `cost/density<1` and no answer to it.
    """
    spans = {c.metric: _span(trials, c) for c in conditions}
    without_dense = [c for c in conditions if c.leaves_out_dense]

    def distance(trial: Candidate) -> tuple[bool, float, int]:
        missed = [c for c in conditions if not c.is_met(trial.metrics)]
        touches = any(not c.miss(trial.metrics) for c in missed)
        is_dense = any(trial.metrics.get(c.metric, 0.0) >= 1.0 for c in without_dense)
        miss = sum(c.miss(trial.metrics) / spans[c.metric] for c in missed)
        return touches or is_dense, miss, trial.number

    nearest = min(trials, key=distance)
    missed, admits, losses = [], [], []
    for condition in conditions:
        if condition.is_met(nearest.metrics):
            continue
        bare = report.without_split(condition.metric)
        value = nearest.metrics.get(condition.metric, math.nan)
        if not math.isfinite(value):
            missed.append(f"{bare} is not known")
            continue
        shown, bound, *_ = condition.beside(value)
        gap = condition.miss(nearest.metrics)
        by = f" (missed by {difference(gap, condition.metric, 3)})" if gap else ""
        missed.append(f"{bare} is {shown}, must be {condition.operator} {bound}{by}")
        admitting = condition.admitting(value)
        if condition.of_max_loss:
            losses.append(admitting.loss_percent)
        else:
            admits.append(f"--where '{admitting.text}'")
    admits += [f"--max-loss {max(losses):f}"] if losses else []
    remedy = f"; {' '.join(admits)} would admit it" if admits else ""
    return f"{nearest.trial}: {', '.join(missed)}{remedy}"


def _span(front: Sequence[Candidate], condition: Condition) -> float:
    values = [t.metrics.get(condition.metric, math.nan) for t in front]
    finite = [value for value in values if math.isfinite(value)]
    return (max(finite) - min(finite)) or abs(condition.value) or 1.0


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = rows[0] if rows else ()
    columns = {name: [row.get(name, math.nan) for row in rows] for name in names}
    return {n: mean_of(c) for n, c in columns.items() if all(map(math.isfinite, c))}


def _reached(
    ended: Sequence[tuple[str, Mapping[str, float]]],
) -> list[Mapping[str, float]]:
    return [metrics for status, metrics in ended if status in report.REACHED_THE_END]
