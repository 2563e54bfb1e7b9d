"""Fill the report's tables of trials: front members, missed constraints, failures."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.labels import (
    admitting,
    metric_label,
    plus_minus,
    share_of_dense,
    task_label,
    unit_label,
)
from analysis.methods import MethodStyle, method_style
from analysis.report.figures import Findings, test_name
from analysis.statistics.choice import mean_metrics
from analysis.statistics.eligible import dense_trials
from analysis.statistics.fronts import ineligible_reason, shown_costs
from analysis.statistics.uncertainty.confirmed import Confirmed, tied_at_few
from analysis.studies.constraints import misses
from analysis.studies.masks import failure_reason
from analysis.studies.systems_by_seed import DELTA
from analysis.studies.trials import Study, Trial
from analysis.tables import picked
from trainables import report


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """Hold a column's head: its lines, and the column's class in the style sheet."""

    lines: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Hold a trial with its method's look and one text per further column."""

    trial: str
    look: MethodStyle
    cells: tuple[str, ...]
    hint: str = ""  # shown where a mouse rests on the trial


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialTable:
    """Hold a table of trials. `heads` are those of the columns after trial and method."""

    heads: tuple[Head, ...]
    rows: tuple[Row, ...]


def _row(trial: Trial, cells: Iterable[str], hint: str = "") -> Row:
    return Row(trial=trial.trial, look=method_style(trial.method), cells=tuple(cells), hint=hint)


def members(found: Findings) -> TrialTable:
    """Tabulate the joint front: every objective on val and test, Δ_T, the other costs, settings.

    Values are rounded to the worse side, so that a bound of what is written admits the model.
    Beside each val value is its share of the dense model's. Where the front was
    confirmed: the mean at fresh seeds with its interval, and which members no quality tells apart.
    """
    study = found.study
    others = shown_costs(study.cost, found.members)[1:]
    dense = mean_metrics(dense_trials(study))
    heads = [_head(study.cost)]
    for name in study.qualities:
        share = [Head(lines=("% of", "dense"))] if dense.get(name, 0) > 0 else []
        fresh = [Head(lines=("mean at", "fresh seeds"))] if found.confirmed else []
        heads += [_head(name), *share, *fresh, Head(lines=("test",), kind="test")]
    rows = []
    for trial in found.members:
        pick = picked.of_trial(study, trial, found.members, dense)
        cells = [_admitting(trial, study.cost)]
        one = found.confirmed.get(trial.trial)
        for name in study.qualities:
            cells.append(_admitting(trial, name))
            if dense.get(name, 0) > 0:
                cells.append(share_of_dense(trial.metrics[name], dense[name], name))
            if found.confirmed:
                cells.append(mean_text(one, name) if one else "–")
            cells.append(_admitting(trial, test_name(name)))
        cells.append(admitting(pick.delta_percent, f"val/{DELTA}"))
        cells += [_admitting(trial, name) for name in others]
        cells.append("–" if pick.weights is None else f"{pick.weights[0]:,} of {pick.weights[1]:,}")
        cells.append("–" if trial.seed is None else str(trial.seed))
        if found.confirmed:
            cells.append(tied_text(found, trial))
        settings = picked.settings_text(pick) or "–"
        file = str(pick.model) if pick.model.is_file() else "–"
        rows.append(_row(trial, [*cells, settings, file], f"{settings}\n{file}"))
    heads += [Head(lines=("Δ_T\u00a0↑", "%")), *map(_head, others)]
    heads += [Head(lines=("prunable", "weights kept")), Head(lines=("seed",))]
    if found.confirmed:
        heads.append(tied_head(found, "text wrap"))
    heads += [Head(lines=("settings",), kind="text"), Head(lines=("model",), kind="text")]
    return TrialTable(heads=tuple(heads), rows=tuple(rows))


def every_metric(found: Findings) -> TrialTable:
    """Tabulate every metric that a member of the joint front reports, by its full name."""
    full = [
        n if n.startswith("cost/") else f"{s}/{n}" for s in report.SPLITS for n in report.METRICS
    ]
    names = [n for n in dict.fromkeys(full) if any(n in t.metrics for t in found.members)]
    rows = [_row(t, [_admitting(t, n) for n in names]) for t in found.members]
    heads = tuple(Head(lines=(n,), kind="test" if n.startswith("test/") else "") for n in names)
    return TrialTable(heads=heads, rows=tuple(rows))


def missed(found: Findings) -> TrialTable:
    """Tabulate the trials that ran to the end and missed a constraint, and which."""
    study = found.study
    trials = study.with_status("infeasible")
    first, *others = shown_costs(study.cost, trials)
    rows = []
    for trial in trials:
        # Beside a bound that is missed, rounded to the worse side as in the words.
        cells = [_admitting(trial, name) for name in (first, *study.qualities, *others)]
        said = "; ".join(misses(found.bounds, trial.metrics)) or failure_reason(study, trial)
        rows.append(_row(trial, [*cells, said]))
    last = Head(lines=("missed",), kind="text wrap")
    return TrialTable(
        heads=(*map(_head, (first, *study.qualities, *others)), last), rows=tuple(rows)
    )


def failures(study: Study) -> TrialTable:
    """Tabulate the trials that cannot be compared, and why."""
    rows = []
    for trial in study.trials:
        reason = ineligible_reason(trial, study.objectives)
        if trial.status == "failed":
            reason = failure_reason(study, trial)
        if reason is not None:
            trained = "–" if trial.fraction != trial.fraction else f"{100 * trial.fraction:.0f} %"
            rows.append(_row(trial, (trial.status, trained, reason)))
    heads = (
        Head(lines=("status",), kind="text"),
        Head(lines=("trained",)),
        Head(lines=("reason",), kind="text wrap"),
    )
    return TrialTable(heads=heads, rows=tuple(rows))


def _head(name: str) -> Head:
    """The head of a column of objectives: what is measured, and the direction that is better."""
    arrow = "↑" if report.describe(name).direction == "maximize" else "↓"
    label = metric_label(name)
    if name.startswith("cost/"):
        first, _, last = label.rpartition(" ")
        return Head(lines=(*filter(None, [first]), f"{last}\u00a0{arrow}"))
    task = task_label(report.task_of(name))
    unit = unit_label(name)
    measured = f"{label} ({unit})" if unit == "°" else label
    return Head(lines=(task, f"{measured}\u00a0{arrow}", "val"), kind="wide")


def _admitting(trial: Trial, name: str) -> str:
    return admitting(trial.metrics.get(name, math.nan), name)


def tied_text(found: Findings, trial: Trial) -> str:
    """Write which members a trial is tied with, for example "#12, #17"; "–" where none is known.

    "#17 (few seeds)" is a tie of too few seeds where others are not; else the head says so.
    """
    few = tied_at_few(found.ties, found.confirmed).get(trial.trial, ())
    mark = "" if _all_few(found) else " (few seeds)"
    others = found.ties.get(trial.trial, ())
    return ", ".join(f"#{each}{mark if each in few else ''}" for each in others) or "–"


def tied_head(found: Findings, kind: str = "") -> Head:
    """Return the head above `tied_text`: "tied with", or that seeds are too few to say so."""
    lines = ("too few seeds to", "tell it apart from") if _all_few(found) else ("tied with",)
    return Head(lines=lines, kind=kind)


def _all_few(found: Findings) -> bool:
    """Tell whether every tie is one of too few seeds, and some are."""
    return any(found.ties.values()) and found.ties == tied_at_few(found.ties, found.confirmed)


def mean_text(one: Confirmed, name: str) -> str:
    """Write a mean over fresh seeds ± half its 95 % interval, for example "0.412 ± 0.0081"."""
    interval = one.interval(name)
    return plus_minus(one.mean(name), (interval.high - interval.low) / 2, name)
