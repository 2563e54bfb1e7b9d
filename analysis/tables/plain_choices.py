"""Say what to take from a front under plain conditions: the report's first screen, and in `pick`.

A condition is a loss that every task may have, a share of the dense network's cost, or the knee.
Models are chosen as `choice` chooses: by their means over fresh seeds where the whole front has
them, else by their values at selection. What fresh seeds say of the losses stands beside these, and
where they do not bear a condition out, that is said.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.labels import (
    admitting,
    losing,
    metric_label,
    share_of_dense,
    task_label,
)
from analysis.statistics.candidates import Candidates, candidates
from analysis.statistics.choice import Choice, choose
from analysis.statistics.comparing.comparison import Interval
from analysis.statistics.conditions import parse_conditions
from analysis.statistics.fronts import dense_trials
from analysis.statistics.uncertainty.confirmed import ENOUGH_SEEDS, tied_at_few, ties
from analysis.statistics.uncertainty.doubts import (
    failures,
    missed_bounds,
    missed_constraints,
    missed_losses,
)
from analysis.statistics.uncertainty.losses import fresh_delta, fresh_losses, losing_between
from analysis.studies.systems_by_seed import DELTA
from analysis.studies.trials import Study, Trial
from analysis.tables.picked import Pick
from analysis.tables.typeset import Table, plain
from trainables import report
from trainables.errors import UserError
from trainables.terminal.as_typed import study_command

_MAX_NAMED = 2  # of the members that one is tied with: all are in the table of members
_LOSSES = (1.0, 5.0)  # percent of the dense model's value that every task may lose
# Costs that are shares of the dense network's, and the percentage that is asked for.
_SHARES = {"cost/density": 10, "cost/latency_fraction": 50, "cost/flops_fraction": 50}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainChoice:
    """Hold what one condition takes.

    condition: in words. max_loss: its bound on losses in percent, if that is what it is. pick: the
    model; None where none meets it, and `reason` then says why. command: which makes the same
    choice in a terminal. fresh: by objective, the loss at fresh seeds in percent of the dense
    model's mean there: its mean, and its 95 % interval, paired by seed; empty where one of both is
    not confirmed. fresh_delta: the mean of Δ_T there, else NaN. num_seeds: how many fresh seeds the
    model has. num_failed: at how many more its training failed. tied: numbers of the members that
    no quality tells apart from it. undecided: those that too few seeds are shared with to call that
    a tie. doubt: what fresh seeds say against it, else empty. by_fresh: whether fresh seeds chose
    it, whose means are the metrics of `pick` then. before: the other model that the values at
    selection would take, else empty.
    """

    condition: str
    command: str
    max_loss: float | None
    pick: Pick | None
    reason: str = ""
    fresh: Mapping[str, tuple[float, Interval]]
    fresh_delta: float = math.nan
    num_seeds: int = 0
    num_failed: int = 0
    tied: tuple[int, ...] = ()
    undecided: tuple[int, ...] = ()
    doubt: str = ""
    by_fresh: bool = False
    before: str = ""

    @property
    def without_sparse(self) -> str:
        """Say so where the dense model alone, or none, loses as little as is asked for; else ""."""
        if self.max_loss is None or (self.pick is not None and not self.pick.only_dense):
            return ""
        return f"No sparse model of the front loses at most {self.max_loss:g} % on every task."


def choices(study: Study) -> tuple[PlainChoice, ...]:
    """Choose under every plain condition that the study can answer; nothing without a front."""
    among = candidates(study)
    trials, dense = among.trials, among.dense
    if not trials:
        return ()
    found = []
    if all(dense.get(name, 0) > 0 for name in study.qualities):
        for loss in _LOSSES:
            words = f"At most {loss:g} % loss on every task"
            found.append(_choice(study, among, words, max_loss=loss, best=study.cost))
    ranking = f"val/{DELTA}"
    knows_delta = any(not report.non_finite(t.metrics, [ranking]) for t in trials)
    for name, percent in _SHARES.items():
        if name == study.cost or any(not report.non_finite(t.metrics, [name]) for t in trials):
            if name == "cost/flops_fraction" and name != study.cost:
                continue
            words = f"{metric_label(name).capitalize()} at most {percent} %"
            where = f"{name}<={percent / 100:g}"
            best = DELTA if knows_delta else None
            found.append(_choice(study, among, words, where=where, best=best))
    found.append(_choice(study, among, "Best bargain (the front's knee)"))
    return tuple(found)


def text(found: Sequence[PlainChoice]) -> str:
    """Write the choices for a terminal: a table, then the doubts and commands."""
    lines = [plain(table(found)), ""]
    for one in found:
        if one.pick is None:
            lines.append(f"  {one.condition}: {one.reason}")
        else:
            lines.append(f"  {one.condition}: {one.command}")
            said = (one.without_sparse, one.doubt, one.before)
            lines += [f"    {each}" for each in said if each]
    return "\n".join(lines)


def table(found: Sequence[PlainChoice]) -> Table:
    """Tabulate the choices: the model, its cost, its loss on every task, and how sure that is."""
    study = next(one.pick.study for one in found if one.pick is not None)
    tasks = [task_label(_task(name)) for name in study.qualities]
    rows = []
    for one in found:
        if one.pick is None:
            rows.append([one.condition, "none", *["–" for _ in range(len(tasks) + 2)]])
            continue
        cost = admitting(one.pick.trial.metrics[study.cost], study.cost)
        losses = [loss_text(one.pick, name) for name in study.qualities]
        rows.append([one.condition, one.pick.trial.trial, cost, *losses, sureness(one)])
    return Table(
        title="what to take",
        heads=["what to take", "model", metric_label(study.cost), *tasks, "how sure"],
        rows=rows,
    )


def loss_text(pick: Pick, name: str) -> str:
    """Write for example "2.18 % worse" beside the dense model, "equal", or "–" without one."""
    percent = _percent(pick, name)
    return "–" if percent is None else losing(percent)


def fresh_text(one: PlainChoice, name: str) -> str:
    """Write a task's loss at fresh seeds, "" for none.

    For example "2.1 % worse (95 %: 0.4 % better to 3.9 % worse)".
    """
    if name not in one.fresh:
        return ""
    mean, interval = one.fresh[name]
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return losing(mean)
    return f"{losing(mean)} (95 %: {losing_between(interval.low, interval.high)})"


def fresh_lines(one: PlainChoice, name: str) -> tuple[str, ...]:
    """Write the same in a narrow column: "fresh: 2.1 % worse", "(95 %: … to …)"."""
    said, _, interval = fresh_text(one, name).partition(" (")
    lines = (*([f"fresh: {said}"] if said else []), *([f"({interval}"] if interval else []))
    return lines[1:] if one.by_fresh else lines  # the loss itself is theirs


def fresh_delta_text(one: PlainChoice) -> str:
    """Write Δ_T at fresh seeds, for example "-5.2 %"; "" where it is not known."""
    known = not one.by_fresh and math.isfinite(one.fresh_delta)
    return f"{admitting(one.fresh_delta, f'val/{DELTA}')} %" if known else ""


def sureness(one: PlainChoice) -> str:
    """Say at how many seeds the model is known, and with which members, of what cost, it is tied.

    For example "3 fresh seeds, too few to tell it apart from #12 (density 24.5 %)".
    """
    return joined((*seeds_parts(one), *failed_parts(one)))


def _cheapest(costs: Mapping[int, float], cost: str) -> str:
    """Name the cheapest trials, for example "#12 (density 24.5 %) and 3 more"."""
    ordered = sorted(costs, key=lambda each: (costs[each], each))
    what = metric_label(cost)
    named = [f"#{each} ({what} {admitting(costs[each], cost)})" for each in ordered[:_MAX_NAMED]]
    more = len(ordered) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def joined(parts: Sequence[str]) -> str:
    """Join what is said of seeds."""
    return "; ".join(parts).replace("; too few", ", too few")


def seeds_parts(one: PlainChoice) -> tuple[str, ...]:
    """Return at how many seeds the model is known, and with which members it is tied."""
    said = ["one seed"]
    if one.num_seeds:
        said = [f"{one.num_seeds} fresh seed{'s' if one.num_seeds > 1 else ''}"]
    if one.tied and one.pick is not None:
        cost = one.pick.study.cost
        costs = {t.number: t.metrics[cost] for t in one.pick.choice.front}
        numbers = [sorted(set(one.tied) - set(one.undecided)), sorted(one.undecided)]
        tied, few = (_cheapest({each: costs[each] for each in some}, cost) for some in numbers)
        said += [f"tied with {tied}"] if tied else []
        if few and one.num_seeds < ENOUGH_SEEDS:
            said.append(f"too few to tell it apart from {few}")
        elif few:
            said.append(f"too few of them shared to tell it apart from {few}")
    return tuple(said)


def failed_parts(one: PlainChoice) -> tuple[str, ...]:
    """Return how many of the fresh trainings failed; nothing where none did."""
    if not one.num_failed:
        return ()
    tried = one.num_seeds + one.num_failed
    many = f"{one.num_failed} of {tried}" if one.num_seeds else f"all {tried}"
    return (f"{many} fresh trainings failed" if tried > 1 else "a fresh training failed",)


def details(one: PlainChoice) -> list[tuple[str, str]]:
    """Return what gets the model: its file, the Python line and the command, each with its word."""
    if one.pick is None:
        return []
    ship = ("ship", one.pick.ship)
    if not one.pick.model.is_file():
        return [("file", f"{one.pick.model}, which was not there"), ship]
    return [("file", str(one.pick.model)), ("load", one.pick.load), ship]


def values_text(pick: Pick, name: str) -> str:
    """Write a task's value and its share of the dense model's, rounded to the worse side."""
    value = pick.trial.metrics[name]
    share = share_of_dense(value, pick.dense.get(name, math.nan), name)
    return admitting(value, name) + (f" ({share})" if share != "–" else "")


def to_json(one: PlainChoice) -> dict[str, Any]:
    """Return the choice as plain values; losses are percentages of the dense model's values."""
    pick = one.pick
    losses = {} if pick is None else {n: _percent(pick, n) for n in pick.study.qualities}
    fresh = {
        name: {"mean": mean, "low": _finite(i.low), "high": _finite(i.high)}
        for name, (mean, i) in one.fresh.items()
    }
    return {
        "condition": one.condition,
        "command": one.command,
        "trial": None if pick is None else pick.trial.trial,
        "reason": one.reason or None,
        "loss_percent": losses,
        "fresh_loss_percent": fresh,
        "fresh_delta_percent": _finite(one.fresh_delta),
        "chosen_by_fresh_seeds": one.by_fresh,
        "fresh_seeds": one.num_seeds,
        "fresh_failed": one.num_failed,
        "tied_with": list(one.tied),
        "tied_at_few_seeds": [each for each in one.tied if each in one.undecided],
        "doubt": one.doubt or None,
        "before": one.before or None,
        "only_dense": (one.pick.only_dense or None) if one.pick else None,
        "model": None if pick is None else str(pick.model),
    }


def _choice(
    study: Study,
    among: Candidates,
    words: str,
    *,
    where: str | None = None,
    max_loss: float | None = None,
    best: str | None = None,
) -> PlainChoice:
    command = _command(study, where, max_loss, best)
    none = PlainChoice(condition=words, command=command, max_loss=max_loss, pick=None, fresh={})

    def choose_among(some: Candidates) -> Choice[Trial]:
        asked = [where] if where else []
        bounds = parse_conditions(asked, max_loss, study.objectives, some.dense)
        return choose(some.trials, study.objectives, bounds, best, by_fresh=bool(some.seeds))

    try:
        chosen = choose_among(among)
    except UserError as error:
        return replace(none, reason=str(error))
    bounds, known = chosen.conditions, among.known
    pick = Pick(study=study, choice=chosen, dense=among.dense)
    own = known.get(pick.trial.trial)
    references = [known[t.trial] for t in dense_trials(study) if t.trial in known]
    reference = next((one for one in references if one.runs), None)
    tied = ties(chosen.front, known, study.qualities)
    fresh, delta, doubts = {}, math.nan, []
    if own is not None:
        fresh = fresh_losses(own, reference, study.qualities) if reference else {}
        delta = fresh_delta(own, reference, study.qualities)
        doubts = [failures(study, own)] if own.failed else []
        doubts += missed_constraints(study, own)
        doubts += missed_losses(own, bounds, max_loss, fresh) if max_loss is not None else []
        doubts += missed_bounds(own, bounds) if max_loss is None else []
    return replace(
        none,
        pick=pick,
        fresh=fresh,
        fresh_delta=delta,
        num_seeds=len(own.runs) if own else 0,
        num_failed=len(own.failed) if own else 0,
        tied=tied.get(pick.trial.trial, ()),
        undecided=tied_at_few(tied, known).get(pick.trial.trial, ()),
        doubt=" ".join(f"{said[0].upper()}{said[1:]}." for said in doubts),
        by_fresh=bool(among.seeds),
        before=_before(pick, among.selected, choose_among),
    )


def _before(
    pick: Pick, selected: Candidates | None, choose_among: Callable[[Candidates], Choice[Trial]]
) -> str:
    """Say which other model the values at selection take; "" for none."""
    try:
        lucky = choose_among(selected).trial if selected is not None else pick.trial
    except UserError:
        return ""
    cost = pick.study.cost
    said = f"{lucky.trial} ({metric_label(cost)} {admitting(lucky.metrics[cost], cost)})"
    return f"Before fresh seeds it was {said}." * (lucky.trial != pick.trial.trial)


def _command(study: Study, where: str | None, max_loss: float | None, best: str | None) -> str:
    words = ["--where", where] if where else []
    words += ["--max-loss", f"{max_loss:g}"] if max_loss is not None else []
    words += ["--best", report.without_split(best)] if best else []
    return study_command("analysis pick", study.name, study.directory.parent, *words)


def _task(name: str) -> str:
    return report.without_split(name).partition("/")[0]


def _percent(pick: Pick, name: str) -> float | None:
    price, dense = pick.price(name), pick.dense.get(name)
    return None if price is None or not dense else 100 * price / abs(dense)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
