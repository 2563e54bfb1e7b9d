"""Put plain choices into words: for a terminal, for the report's first screen, and as JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.labels import admitting, losing, metric_label, task_in_words, task_label
from analysis.statistics.choice import ENOUGH_FRESH, mean_metrics
from analysis.statistics.eligible import dense_trials
from analysis.statistics.uncertainty.confirmed import ENOUGH_SEEDS
from analysis.statistics.uncertainty.losses import losing_between
from analysis.studies.systems_by_seed import DELTA
from analysis.tables.picked import Pick
from analysis.tables.plain_choices import PlainChoice
from analysis.tables.typeset import Table, plain
from trainables import report
from trainables.terminal.plurals import counted

_MAX_NAMED = 2  # of the members that one is tied with: all are in the table of members


def text(found: Sequence[PlainChoice]) -> str:
    """Write the choices for a terminal: a table, then the doubts and commands."""
    lines = [plain(table(found)), ""]
    for one in found:
        if one.pick is None:
            lines.append(f"  {one.condition}: {one.reason}")
        else:
            lines.append(f"  {one.condition}: {one.command}")
        lines += [f"    {said}" for said in remarks(one)]
    return "\n".join(lines)


def remarks(one: PlainChoice) -> tuple[str, ...]:
    """Return what has to be said beside a choice, in sentences."""
    return tuple(filter(None, (one.without_sparse, one.doubt, one.unsure, one.before)))


def summary(found: Sequence[PlainChoice]) -> list[str]:
    """Return a line for each condition: what it takes, and what fresh seeds have changed.

    Where fresh seeds have not chosen, that comes first.
    """
    lines = []
    if found and not any(one.by_fresh for one in found):
        lines.append(
            "Values at selection decide: not all of the front, and the dense model, ended at "
            f"{ENOUGH_FRESH} fresh seeds."
        )
    for one in found:
        takes = "none" if one.pick is None else one.pick.trial.trial
        takes += ", the dense model" if one.pick is not None and one.pick.only_dense else ""
        said = (one.doubt, one.unsure, one.before or "As before fresh seeds." * one.by_fresh)
        lines.append(" ".join(filter(None, (f"{one.condition}: {takes}.", *said))))
    if any(one.by_fresh and one.num_seeds < ENOUGH_SEEDS for one in found):
        lines.append(
            f"With fewer than {ENOUGH_SEEDS} fresh seeds, models often cannot be told apart."
        )
    return lines


def table(found: Sequence[PlainChoice]) -> Table:
    """Tabulate the choices: the model, its cost, its loss on every task, and how sure that is."""
    study = next(one.pick.study for one in found if one.pick is not None)
    tasks = [task_label(report.task_of(name)) for name in study.qualities]
    rows = []
    for one in found:
        words = f"{one.condition}: {one.aim}" if one.aim else one.condition
        if one.pick is None:
            rows.append([words, "none", *["–" for _ in range(len(tasks) + 2)]])
            continue
        cost = admitting(one.pick.trial.metrics[study.cost], study.cost)
        losses = [loss_text(one.pick, name) for name in study.qualities]
        rows.append([words, one.pick.trial.trial, cost, *losses, sureness(one)])
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
        said = [counted(one.num_seeds, "fresh seed")]
    if one.tied and one.pick is not None:
        cost = one.pick.study.cost
        costs = {t.number: t.metrics[cost] for t in one.pick.choice.admitted}
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


def file_text(one: PlainChoice) -> str:
    """Say which training a model's file holds, and how that does on test; "" without the file.

    Beside the study's dense model as the search trained it, where both were evaluated on test.
    """
    if one.pick is None or not one.pick.model.is_file():
        return ""
    study, name = one.pick.study, one.pick.trial.trial
    trial = next(trial for trial in study.trials if trial.trial == name)
    seed = "" if trial.seed is None else f", at seed {trial.seed}"
    said = f"The file holds the model as the search trained it{seed}."
    dense, losses, most = mean_metrics(dense_trials(study)), [], 0.0
    for quality in study.qualities:
        test = f"test/{report.without_split(quality)}"
        if report.non_finite(trial.metrics, [test]) or not dense.get(test):
            return said
        gap = report.minimised(test, trial.metrics[test] - dense[test])
        task, percent = task_in_words(quality), 100 * gap / abs(dense[test])
        losses.append(f"{task} {losing(percent)}")
        most = max(most, percent)
    if trial.method == "dense":
        return said
    said += f" On test, compared with the dense model of the search: {', '.join(losses)}."
    if one.max_loss is not None and most > one.max_loss:
        said += f" That is more than the {one.max_loss:g} % asked for on validation."
    return said


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
        "aim": one.aim or None,
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
        "unsure": one.unsure or None,
        "before": one.before or None,
        "only_dense": (one.pick.only_dense or None) if one.pick else None,
        "model": None if pick is None else str(pick.model),
    }


def _percent(pick: Pick, name: str) -> float | None:
    price, dense = pick.price(name), pick.dense.get(name)
    return None if price is None or not dense else 100 * price / abs(dense)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
