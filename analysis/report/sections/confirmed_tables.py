"""Fill the report's table of what fresh seeds say beside what the search promised."""

import math

from analysis.labels import admitting, difference, metric_label, task_label
from analysis.methods import method_style
from analysis.report.figures import Findings, test_name
from analysis.report.sections.trial_tables import (
    Head,
    Row,
    TrialTable,
    mean_text,
    tied_head,
    tied_text,
)
from analysis.statistics.fronts import shown_costs
from analysis.statistics.uncertainty.confirmed import (
    ENOUGH_SEEDS,
    Confirmed,
    optimism,
    seeds_text,
    tied_at_few,
)
from analysis.statistics.uncertainty.doubts import missed_constraints
from analysis.studies.trials import Study
from trainables import report
from trainables.terminal.as_typed import study_command

_ROUNDING = 1e-9  # of a cost: what is left of floats that are equal


def state(found: Findings) -> str:
    """Say in a line at how many seeds the front is known, and what to do where it is one."""
    if not found.confirmed:
        return f"single seed: run `{confirm_command(found.study)}`"
    tried = [found.confirmed[t.trial] for t in found.members if t.trial in found.confirmed]
    known = [one for one in tried if one.runs]
    said = f"{len(known)} of {len(found.members)} members of the search's front confirmed"
    if known:
        said += f" at {seeds_text(known)}"
    num_failed = sum(len(one.failed) for one in tried)
    if num_failed:
        total = sum(len(one.tried) for one in tried)
        said += f"; {num_failed} of {total} of their trainings failed"
    if fresh := found.fresh_front:
        models = "1 model is" if len(fresh) == 1 else f"{len(fresh)} models are"
        said += f"; by the means over these, {models} on the front"
    return said


def confirm_command(study: Study, num_seeds: int | None = None) -> str:
    """Return the command that trains the front at fresh seeds, at `num_seeds` where it is given."""
    words = [] if num_seeds is None else ["--seeds", str(num_seeds)]
    return study_command("search confirm", study.name, study.directory.parent, *words)


def curse(found: Findings) -> TrialTable:
    """Tabulate the winner's curse: each quality at selection, and at fresh seeds on val and test.

    Costs that differ between seeds, such as a latency, stand there too. Beside the members are the
    neighbours and the dense model, as far as they were confirmed.
    """
    by_means = {trial.trial for trial in found.fresh_front}
    cost, costs = found.study.cost, _varying_costs(found)
    heads = [] if cost in costs else [Head(lines=(metric_label(cost),))]
    heads += [Head(lines=("on the", "search's front"))]
    heads += [Head(lines=("on the front", "of the means"))] if by_means else []
    for name in found.study.qualities:
        label = f"{metric_label(name)}\u00a0{_arrow(name)}"
        task = task_label(report.task_of(name))
        heads += [
            Head(lines=(task, label, "val at selection"), kind="wide"),
            Head(lines=("val at", "fresh seeds")),
            Head(lines=("test at", "fresh seeds"), kind="test"),
        ]
    for name in costs:
        heads += [
            Head(lines=(metric_label(name), "at selection")),
            Head(lines=("at", "fresh seeds")),
        ]
    has_missed = any(missed_constraints(found.study, one) for one in found.confirmed.values())
    rows = []
    known = found.confirmed.values()
    for one in sorted(known, key=lambda one: one.trial.metrics.get(cost, math.inf)):
        cells = [] if cost in costs else [admitting(one.trial.metrics.get(cost, math.nan), cost)]
        places = [one.trial.trial in found.member_names]
        places += [one.trial.trial in by_means] if by_means else []
        cells += ["yes" if place else "no" for place in places]
        for name in found.study.qualities:
            cells += [admitting(one.trial.metrics.get(name, math.nan), name)]
            cells += [mean_text(one, name), mean_text(one, test_name(name))]
        for name in costs:
            cells += [admitting(one.trial.metrics.get(name, math.nan), name), mean_text(one, name)]
        count = f"{len(one.runs)} of {len(one.tried)}" if one.failed else str(len(one.runs))
        cells += [count]
        if has_missed:
            cells += ["; ".join(missed_constraints(found.study, one)).replace("it misses ", "")]
        cells += [tied_text(found, one.trial)]
        look = method_style(one.trial.method)
        rows.append(Row(trial=one.trial.trial, look=look, cells=tuple(cells)))
    heads += [Head(lines=("seeds",))]
    heads += [Head(lines=("misses",), kind="text wrap")] if has_missed else []
    heads += [tied_head(found)]
    return TrialTable(heads=tuple(heads), rows=tuple(rows))


def curse_text(found: Findings) -> list[str]:
    """Say by how much selection flattered the members of the front, and what ties are worth."""
    # The dense model was not selected.
    chosen = [trial for trial in found.members if trial.method != "dense"]
    members = [found.confirmed[t.trial] for t in chosen if t.trial in found.confirmed]
    said = []
    for gap in optimism(members, (*found.study.qualities, *_varying_costs(found))):
        what = metric_label(gap.objective)
        if not gap.objective.startswith("cost/"):
            what = f"{task_label(report.without_split(gap.objective).partition('/')[0])} {what}"
        amount = "equal at selection and at fresh seeds"
        if gap.mean:
            direction = "better" if gap.mean > 0 else "worse"
            by = difference(gap.mean, gap.objective)
            amount = f"{by} {direction} at selection than at fresh seeds"
        said.append(
            f"{what[0].upper()}{what[1:]}: on average {amount} "
            f"({gap.share} of {gap.num_trials} sparse members were better)"
        )
    if any(tied_at_few(found.ties, found.confirmed).values()):
        said.append(
            f"With fewer than {ENOUGH_SEEDS} fresh seeds, members that no task tells apart need "
            "not be equally good: of pairs that truly differ by two standard deviations in every "
            "task, three seeds leave 35 % undecided, and five seeds 4 %"
        )
    return said


def _varying_costs(found: Findings) -> tuple[str, ...]:
    """Return the costs that were not the same at selection and at every fresh seed."""
    known = found.confirmed.values()
    runs = [run for one in known for run in one.runs.values()]

    def varies(one: Confirmed, name: str) -> bool:
        values = [*one.values(name).values(), one.trial.metrics.get(name, math.nan)]
        values = [value for value in values if math.isfinite(value)]
        if not values:
            return False
        return max(values) - min(values) > _ROUNDING * max(map(abs, values))

    return tuple(
        name
        for name in shown_costs(found.study.cost, runs)
        if any(varies(one, name) for one in known)
    )


def _arrow(name: str) -> str:
    return "↑" if report.describe(name).direction == "maximize" else "↓"
