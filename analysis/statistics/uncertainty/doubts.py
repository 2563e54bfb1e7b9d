"""Say what fresh seeds hold against a model: in sentences, none where they bear it out."""

from collections import Counter

from analysis.statistics.uncertainty.confirmed import Confirmed
from analysis.studies.constraints import read_bounds
from analysis.studies.masks import failure_reason
from analysis.studies.trials import Study, Trial
from trainables import report

_REASON_CHARACTERS = 120


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


def _reason(study: Study, one: Confirmed) -> str:
    """Return the commonest reason."""
    said = Counter(_why(study, run) for run in one.failed.values())
    text = said.most_common(1)[0][0].rstrip(". ")
    return text if len(text) <= _REASON_CHARACTERS else f"{text[: _REASON_CHARACTERS - 1]}…"


def _why(study: Study, run: Trial) -> str:
    if run.status in ("complete", "infeasible"):
        return f"{', '.join(report.non_finite(run.metrics, study.objectives))} was no number"
    return failure_reason(study, run)
