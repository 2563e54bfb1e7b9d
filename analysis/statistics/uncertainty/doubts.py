"""Say what fresh seeds hold against a model: in sentences, none where they bear it out."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from analysis.labels import admitting, exactly, losing, metric_label, task_in_words
from analysis.statistics.comparing.comparison import Interval
from analysis.statistics.conditions import Condition
from analysis.statistics.uncertainty.confirmed import Confirmed
from analysis.studies.constraints import read_bounds
from analysis.studies.masks import failure_reason
from analysis.studies.trials import Study, Trial
from trainables import report

_REASON_CHARACTERS = 120
_ROUNDING = 1e-9  # in percent: what is left of floats that are equal
_SIDES = {"<=": "at most", ">=": "at least", "<": "below", ">": "above"}


def failures(study: Study, one: Confirmed) -> str:
    """Return for example "3 of 5 fresh trainings failed: loss became NaN"; "" where none did."""
    if not one.failed:
        return ""
    return f"{len(one.failed)} of {len(one.tried)} fresh trainings failed: {_reason(study, one)}"


def missed_constraints(study: Study, one: Confirmed) -> list[str]:
    """Return for example "it misses segmentation/miou>=0.3 at 4 of 5 fresh seeds".

    The search has judged: only a run with the status `infeasible` can have missed anything.
    """
    missed = [run.metrics for run in one.runs.values() if run.status == "infeasible"]
    counts = {b.typed: sum(map(b.is_missed, missed)) for b in read_bounds(study.facts)}
    found = [f"{typed} at {count}" for typed, count in counts.items() if count]
    if missed and not found:
        found = [f"a constraint of the study at {len(missed)}"]
    return [f"it misses {said} of {len(one.runs)} fresh seeds" for said in found]


def missed_losses(
    one: Confirmed,
    bounds: Sequence[Condition],
    max_loss: float,
    losses: Mapping[str, tuple[float, Interval]],
) -> list[str]:
    """Return "at fresh seeds it loses more than 1 %: depth 1.04 %", or nothing.

    bounds: one for each task that may lose `max_loss` percent. losses: of `fresh_losses`. A task
    that is not among them is compared with the dense model's value at selection.
    """
    if one.trial.method == "dense":
        return []
    found = []
    for bound in bounds:
        name = bound.metric
        loss = losses[name][0] if name in losses else _beside(bound, one.mean(name))
        if loss > max_loss + _ROUNDING:
            task = task_in_words(name)
            found.append(f"{task} {losing(loss).removesuffix(' worse')}")
    return [f"at fresh seeds it loses more than {max_loss:g} %: {', '.join(found)}"] * bool(found)


def possible_losses(losses: Mapping[str, tuple[float, Interval]], max_loss: float) -> str:
    """Return "The loss may be higher: up to 9.68 % in segmentation (95 % interval)."; else "".

    losses: of `fresh_losses`; their means lose at most `max_loss` percent.
    """
    known = {name: interval.high for name, (_, interval) in losses.items()}
    beyond = {name: high for name, high in known.items() if high > max_loss + _ROUNDING}
    if not beyond:
        return ""
    if any(math.isinf(high) for high in beyond.values()):
        return "How much higher the loss may be is not known: one fresh seed has no interval."
    each = [
        f"{losing(high).removesuffix(' worse')} in {task_in_words(name)}"
        for name, high in beyond.items()
    ]
    return f"The loss may be higher: up to {', '.join(each)} (95 % interval)."


def missed_bounds(one: Confirmed, bounds: Sequence[Condition]) -> list[str]:
    """Return for example "at fresh seeds its latency is 60 % on average, must be at most 50 %"."""
    found = []
    for bound in bounds:
        mean = one.mean(bound.metric)
        if math.isfinite(mean) and not bound.is_met({bound.metric: mean}):
            shown = admitting(mean, bound.metric)
            found.append(
                f"at fresh seeds its {metric_label(bound.metric)} is {shown} on average, must be "
                f"{_SIDES[bound.operator]} {exactly(bound.value, bound.metric)}"
            )
    return found


def _beside(bound: Condition, value: float) -> float:
    return 100 * report.minimised(bound.metric, value - bound.dense) / abs(bound.dense)


def _reason(study: Study, one: Confirmed) -> str:
    """Return the commonest reason."""
    said = Counter(_why(study, run) for run in one.failed.values())
    text = said.most_common(1)[0][0].rstrip(". ")
    return text if len(text) <= _REASON_CHARACTERS else f"{text[: _REASON_CHARACTERS - 1]}…"


def _why(study: Study, run: Trial) -> str:
    if run.status in report.REACHED_THE_END:
        return f"{', '.join(report.non_finite(run.metrics, study.objectives))} was not a number"
    return failure_reason(study, run)
