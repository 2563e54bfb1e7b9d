"""Set a model beside the dense one at fresh seeds: what each task loses there, and Δ_T."""

import math
from collections.abc import Sequence

from analysis.labels import losing
from analysis.statistics.choice import mean_of
from analysis.statistics.comparing.comparison import Interval, mean_interval
from analysis.statistics.uncertainty.confirmed import CONFIDENCE, Confirmed
from analysis.studies.systems_by_seed import DELTA
from trainables import report


def fresh_losses(
    own: Confirmed, dense: Confirmed, names: Sequence[str]
) -> dict[str, tuple[float, Interval]]:
    """Return each objective's loss in percent of the dense model's mean, and its 95 % interval.

    Losses are paired by seed. Those without a shared seed are left out, and all of the dense
    model's own.
    """
    if own.trial.trial == dense.trial.trial:
        return {}
    found = {}
    for name in names:
        ours, theirs = own.values(name), dense.values(name)
        level = abs(dense.mean(name))
        gaps = [
            100 * report.minimised(name, ours[seed] - theirs[seed]) / level
            for seed in ours
            if seed in theirs and level > 0
        ]
        if gaps:
            found[name] = (mean_of(gaps), mean_interval(gaps, CONFIDENCE))
    return found


def fresh_delta(own: Confirmed, dense: Confirmed | None, qualities: Sequence[str]) -> float:
    """Return the mean of Δ_T at fresh seeds, in percent; higher is better.

    The trainings' own is taken, else that to the dense model's training at the same seed. NaN where
    neither is known.
    """
    reported = own.mean(f"val/{DELTA}")
    if math.isfinite(reported) or dense is None:
        return reported
    tasks = [report.task_of(name) for name in qualities]
    names = [name for task in tasks for name in report.task_metrics(task)]
    found = []
    for seed in own.runs.keys() & dense.runs.keys():
        ours, theirs = (
            {n: m[f"val/{n}"] for n in names if not report.non_finite(m, [f"val/{n}"])}
            for m in (own.runs[seed].metrics, dense.runs[seed].metrics)
        )
        found.append(report.delta_percent(ours, theirs))
    return mean_of([value for value in found if math.isfinite(value)])


def losing_between(low: float, high: float) -> str:
    """Write an interval of a loss, for example "0.2 % better to 3.9 % worse".

    It is no narrower than it is. A side that both ends share is said once: "1 % to 3.9 % worse".
    """
    # A loss is rounded up; the lower end is rounded down, as the gain on the other side of 0.
    gain, loss = losing(-low).replace("equal", "0 %"), losing(high).replace("equal", "0 %")
    first = gain.replace("better", "W").replace("worse", "better").replace("W", "worse")
    if first.rpartition(" ")[2] == loss.rpartition(" ")[2]:
        first = first.rpartition(" ")[0] if first != "0 %" else first
    return f"{first} to {loss}"
