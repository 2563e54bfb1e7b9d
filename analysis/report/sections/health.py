"""Say what may be wrong with a study, each in a sentence, and what to do about it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.labels import metric_label, number, task_in_words
from analysis.report.figures import Findings
from analysis.report.sections.confirmed_tables import confirm_command
from analysis.statistics.health import collapse, ranks, reach
from analysis.statistics.uncertainty.confirmed import ENOUGH_SEEDS, seeds_text, tried_seeds
from analysis.statistics.uncertainty.doubts import failures, missed_constraints
from analysis.studies.masks import failure_reason, read_masks
from analysis.studies.reports import read_reports
from analysis.studies.terms import BUDGET_UNITS, few_percent, further_text, rungs, trials_text
from trainables.terminal.as_typed import study_command

_FAILED, _STOPPED = 0.1, 0.8  # shares of the trials that are too many
_GAIN = 0.01  # of the hypervolume, in the last quarter of the trials
_MAX_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Hold one check. remedy: what to do; empty where all is well or nothing can be said."""

    text: str
    remedy: str = ""


def check(found: Findings) -> list[Finding]:
    """Return every check of a study, those that ask for something first."""
    checks = [_layers, _ends]
    if found.grid is None:  # a grid searches nothing, and its seeds are its own
        checks += [_gain, _further, _parameters, _edges, _ranks, _seeds]
    findings = [one for each in checks for one in each(found)]
    return sorted(findings, key=lambda one: not one.remedy)


def lines(found: Findings) -> list[str]:
    """Return what asks for something, one line each, for a terminal."""
    return [f"health: {one.text} {one.remedy}" for one in check(found) if one.remedy]


def _layers(found: Findings) -> Iterator[Finding]:
    masks = read_masks(found.study, (*found.ended, *found.infeasible))
    empty = collapse.collapsed_layers(masks)
    if not masks:
        yield Finding(text="No trial left a record of its layers, so empty ones cannot be found.")
    elif not empty:
        yield Finding(text=f"No layer of {trials_text(len(masks))} lost all of its weights.")
    for trial, layers in list(empty.items())[:_MAX_NAMED]:
        names = _listed([f"{layer.name} ({layer.owner})" for layer in layers])
        cut = "its output is constant" if len(layers) == 1 else "their outputs are constant"
        alone = "it" if len(layers) == 1 else "them"
        is_member = trial in found.member_names
        where = "on the front" if is_member else "not on the front"
        yield Finding(
            text=f"{trial} ({where}) has no weight left in {names}: {cut}, so what depends on "
            f"{alone} alone does not see the image.",
            remedy="Lower sparsity.target, or use a method with sparsity.allocation=erk."
            if is_member
            else "",
        )
    if len(empty) > _MAX_NAMED:
        yield Finding(text=f"{len(empty) - _MAX_NAMED} further trials have such layers.")


def _ends(found: Findings) -> Iterator[Finding]:
    study = found.study
    failed = study.with_status("failed")
    ends = collapse.ends(study, {t.trial: failure_reason(study, t) for t in failed})
    said = f"None of {trials_text(ends.total)} failed"
    if failed:
        said = (
            f"{len(failed)} of {trials_text(ends.total)} failed, {ends.diverged} of them because a "
            "loss or a score was not a number"
        )
    num_stopped = ends.counts.get("stopped", 0)
    were = "was" if num_stopped < 2 else "were"
    text = f"{said}; {num_stopped or 'none'} {were} stopped early."
    remedy = ""
    if ends.share("failed") > _FAILED:
        remedy = f"Remove the commonest cause: {ends.commonest[:200]}."
        if 2 * ends.diverged >= len(failed):
            remedy = "Lower the upper end of optimiser.learning_rate, or set optimiser.clip_norm."
    elif ends.share("stopped") > _STOPPED:
        remedy = "Few are left to compare: raise scheduler.grace, or lower reduction_factor."
    yield Finding(text=text, remedy=remedy)


def _gain(found: Findings) -> Iterator[Finding]:
    gain = reach.late_gain(found.share_N)
    if gain is None:
        yield Finding(
            text=f"Whether the search still gains can be told from {reach.MIN_TRIALS} trials that "
            f"ran to the end; so far there are {len(found.ended)}."
        )
        return
    text = (
        f"Measured: the last {gain.num_trials} of {gain.total} trials that ran to the end added "
        f"{few_percent(gain.share)} to the hypervolume."
    )
    still = gain.share > _GAIN
    storage = found.study.directory.parent
    unit, option = _more(found.study.facts.get("budget") or {})
    command = study_command("search extend", found.study.name, storage, option, "K")
    yield Finding(
        text=text, remedy=f"The search still gains; `{command}` adds K {unit}." if still else ""
    )


def _more(budget: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a study's budget is counted in, and the option that adds to it."""
    key = next((key for key in BUDGET_UNITS if key in budget), "trials")
    return BUDGET_UNITS[key], f"--{key.replace('_', '-')}"


def _further(found: Findings) -> Iterator[Finding]:
    """Say what the search itself believes of trials that were not run."""
    facts = found.study.facts
    if text := further_text(facts):
        reached = " It ended there, at a plateau." if facts.get("plateau") else ""
        yield Finding(text=f"{text}{reached}")


def _parameters(found: Findings) -> Iterator[Finding]:
    told = found.importances
    if told.reason:
        yield Finding(text=told.reason)
        return
    matters = {item.parameter for item in told.items if item.is_told}
    ranges = found.study.facts.get("ranges") or {}
    # What the front has at one end of its range mattered, and is said below.
    matters |= {edge.parameter for edge in reach.at_edges(found.members, ranges)}
    idle = [name for name in told.parameters if name not in matters]
    if not idle:
        yield Finding(text="Every parameter mattered to some objective more than by chance.")
        return
    yield Finding(
        text=f"In {trials_text(len(found.ended))}, no objective depended on {_listed(idle)} more "
        "than by chance.",
        remedy=(
            "More trials may show that one matters; else fix it in the next study, for example by "
            f"--set {idle[0]}=VALUE."
        ),
    )


def _edges(found: Findings) -> Iterator[Finding]:
    ranges = found.study.facts.get("ranges")
    if ranges is None:
        yield Finding(text="The ranges that the study draws from are not on record.")
        return
    edges = reach.at_edges(found.members, ranges)
    if not edges:
        yield Finding(
            text="At no end of a range are there more of the front's settings than by chance."
        )
    for edge in edges:
        yield Finding(
            text=f"Of the front's members, {edge.num_members} have {edge.parameter}, and "
            f"{edge.count} of these lie at the {edge.end} end of its range "
            f"[{number(edge.low)}, {number(edge.high)}].",
            remedy="The best may lie beyond: widen the range in the next study.",
        )


def _ranks(found: Findings) -> Iterator[Finding]:
    study = found.study
    fractions = rungs(study.facts)
    if not fractions:
        yield Finding(
            text="No trial is stopped early, so nothing depends on the order early in training."
        )
        return
    reports = {t.trial: read_reports(study, t) for t in study.trials if t.method != "dense"}
    final = {t.trial: t.metrics for t in (*found.ended, *found.infeasible)}
    known = [ranks.lasting_order(reports, final, each, study.qualities) for each in fractions]
    orders = [order for order in known if order is not None]
    if not orders:
        yield Finding(
            text="Whether the order of trials early in training lasts can be told from "
            f"{ranks.MIN_TRIALS} sparse trials that ran to the end and left reports."
        )
    for order in orders:
        alone = ranks.rank_correlations(reports, final, [order.fraction], study.qualities)
        each = ", ".join(
            f"{one.spearman:.2f} for {_quality(one.objective)} (Kendall's τ {one.kendall:.2f})"
            for one in alone
        )
        stopped = order.num_final < order.num_early
        from_whom = f"{order.num_final} of {order.num_early}" if stopped else f"{order.num_final}"
        corrected = ", corrected for their being the better ones" if stopped else ""
        yield Finding(
            text=f"The order of trials at {100 * order.fraction:.3g} % of training and that at the "
            f"end have a correlation of {order.correlation:.2f} over all tasks (95 % interval "
            f"{order.low:.2f} to {order.high:.2f}; from the {from_whom} trials that ran to the end"
            f"{corrected}). Among these, Spearman's ρ is {each}.",
            remedy="Too weak to stop trials by: raise scheduler.grace, or use --scheduler none."
            if order.is_weak
            else "",
        )


def _seeds(found: Findings) -> Iterator[Finding]:
    if not found.members:
        return
    if not found.confirmed and found.study.facts.get("grid"):
        command = study_command("analysis compare", found.study.name, found.study.directory.parent)
        yield Finding(text=f"A grid has its own seeds: `{command}` pairs systems by them.")
        return
    if not found.confirmed:
        text = "Every member of the front was trained at one seed, and chosen for doing well there."
        yield Finding(text=text, remedy=f"Run `{confirm_command(found.study)}`.")
        return
    bare = [t.trial for t in found.members if t.trial not in found.confirmed]
    num_tried = len(tried_seeds(found.confirmed))
    confirm = f"`{confirm_command(found.study, max(num_tried, ENOUGH_SEEDS))}`"
    if bare:
        are = "is" if len(bare) == 1 else "are"
        text = f"{_listed(bare)} of the front {are} not confirmed."
        yield Finding(text=text, remedy=f"{confirm}.")
    members = [found.confirmed[t.trial] for t in found.members if t.trial in found.confirmed]
    if seeds := seeds_text(members):
        counts = [len(one.runs) for one in members if one.runs]
        few = ": intervals are wide with so few" if min(counts) < ENOUGH_SEEDS else ""
        # Trainings that failed are not made up for by the same command.
        lacking = min(len(one.tried) for one in members) < max(num_tried, ENOUGH_SEEDS)
        what = "The front is"
        if len(counts) < len(found.members):
            are = "is" if len(counts) == 1 else "are"
            what = f"{len(counts)} of the front's {len(found.members)} members {are}"
        yield Finding(
            text=f"{what} confirmed at {seeds}{few}.",
            remedy=f"{confirm} trains at {max(num_tried, ENOUGH_SEEDS)} in all." if lacking else "",
        )
    for trial in found.members:
        one = found.confirmed.get(trial.trial)
        for said in missed_constraints(found.study, one) if one else ():
            yield Finding(
                text=f"{trial.trial} is on the front, but {said}.",
                remedy="Prefer a member that meets it at every seed.",
            )
    yield from _lost(found)


def _lost(found: Findings) -> Iterator[Finding]:
    """Say whose trainings at fresh seeds failed: those seeds are not tried again."""
    known = [one for one in found.confirmed.values() if one.failed]
    own = [o for o in known if any(r.confirms == o.trial.number for r in o.failed.values())]
    num_tried = len(tried_seeds(found.confirmed))
    for one in sorted(own, key=lambda one: one.trial.trial not in found.member_names)[:_MAX_NAMED]:
        where = " (on the front)" if one.trial.trial in found.member_names else ""
        lost = _listed([run.trial for run in one.failed.values()])
        more = confirm_command(found.study, max(num_tried + len(one.failed), ENOUGH_SEEDS))
        yield Finding(
            text=f"{one.trial.trial}{where}: {failures(found.study, one)} ({lost}). These "
            "trainings count in no mean.",
            remedy="Such a setting is fragile: prefer a member whose trainings all ended. A seed "
            f"that failed is not tried again; `{more}` adds others.",
        )
    if len(own) > _MAX_NAMED:
        yield Finding(text=f"{len(own) - _MAX_NAMED} further trials failed at fresh seeds.")


def _quality(name: str) -> str:
    task = task_in_words(name)
    return f"{task} {metric_label(name)}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{', '.join(names[:_MAX_NAMED])}{more}"
