"""Fill the report's first section: what to take under plain conditions, and how to get it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.labels import DELTA_MEANS, admitting, metric_label, task_in_words, task_label
from analysis.methods import MethodStyle, method_style
from analysis.report.figures import Findings
from analysis.report.sections.confirmed_tables import confirm_command
from analysis.statistics.uncertainty.confirmed import ENOUGH_SEEDS, fresh_seeds, tied_at_few
from analysis.studies.systems_by_seed import DELTA
from analysis.studies.trials import Study, Trial
from analysis.tables import plain_words
from analysis.tables.plain_choices import PlainChoice
from trainables import report

# What leaving out weights one by one, or N of M, does not buy.
_NO_FASTER = (
    " Leaving out single weights, as these models do, saves bytes but no time on ordinary "
    "hardware; leaving out whole channels saves both (--set sparsity.structure=channel)."
)
_OTHERS = " Other conditions take other models, below."


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenRow:
    """Hold a condition and its model. cells: lines per column; without a model `reason` says why.

    aim: what is best among those that meet the condition.

    look: the method's; None where no model meets the condition.
    """

    condition: str
    command: str
    aim: str = ""
    trial: str = ""
    look: MethodStyle | None = None
    cells: tuple[tuple[str, ...], ...] = ()
    doubt: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenModel:
    """Hold how to get a model: words with a path, a line of Python or a command.

    file: what its file is, in a sentence.
    """

    trial: str
    details: tuple[tuple[str, str], ...]
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeView:
    """Hold the section: the model to begin with, the table, and how to get every other model."""

    first: TakenModel
    headline: str
    text: str
    heads: tuple[tuple[str, ...], ...]
    rows: tuple[TakenRow, ...]
    others: tuple[TakenModel, ...]


def view(found: Findings) -> TakeView | None:
    """Return the section's contents; None without a trial that ran to its end."""
    picked = [one for one in found.plainly if one.pick is not None]
    if not picked:
        return None
    study = found.study
    first = _first(picked)
    models = {one.pick.trial.trial: _model(one) for one in picked if one.pick is not None}
    head = models.pop(first.pick.trial.trial) if first.pick is not None else None
    assert head is not None
    tasks = [_head(name) for name in study.qualities]
    return TakeView(
        first=head,
        headline=_headline(first) + _unlosing(first, found.plainly) + (_OTHERS if models else ""),
        text=_text(found, by_fresh=first.by_fresh) + _speed(picked) + _meaning(study.cost),
        heads=(
            *(("condition",), ("model",), (metric_label(study.cost),)),
            *tasks,
            *(("Δ_T",), ("how sure",)),
        ),
        rows=_rows(found.plainly),
        others=tuple(models.values()),
    )


def _first(picked: Sequence[PlainChoice]) -> PlainChoice:
    """Return the sparse model under the mildest loss, else the knee, else what there is.

    One that fresh seeds speak against is returned only where they do against every sparse one, and
    one whose fresh trainings failed last of these.
    """
    sparse = [c for c in picked if c.pick is not None and c.pick.trial.method != "dense"]
    borne_out = [c for c in sparse if not c.doubt]
    losing = [c for c in borne_out if c.max_loss is not None]
    steady = [c for c in sparse if not c.num_failed]
    return (losing or borne_out or steady or sparse or list(picked))[-1]


def _unlosing(first: PlainChoice, choices: Sequence[PlainChoice]) -> str:
    """Say why a model that answers another condition stands first, not one of the mildest loss."""
    losing = [one for one in choices if one.max_loss is not None]
    if first.max_loss is not None or not losing:
        return ""
    mildest = losing[-1]
    if mildest.without_sparse or mildest.pick is None:
        return f" {mildest.without_sparse}"
    if not mildest.doubt:
        return ""
    return (
        f" {mildest.pick.trial.trial}, the answer to \u201c{mildest.condition}\u201d, is not "
        "borne out by fresh seeds."
    )


def _model(one: PlainChoice) -> TakenModel:
    assert one.pick is not None
    return TakenModel(
        trial=one.pick.trial.trial,
        details=tuple(plain_words.details(one)),
        file=plain_words.file_text(one),
    )


def _headline(one: PlainChoice) -> str:
    """Write for example "(DiSparse static, density 50 %); compared with the dense model: …"."""
    pick = one.pick
    assert pick is not None
    study = pick.study
    losses = ", ".join(_loss(one, name) for name in study.qualities)
    cost = admitting(pick.trial.metrics[study.cost], study.cost)
    beside = f"; compared with the dense model: {losses}" if pick.dense else ""
    sure = plain_words.joined(plain_words.seeds_parts(one))  # failures are in the doubt
    doubt = "".join(f" {said}" for said in (one.doubt, one.unsure) if said)
    answers = f"It answers \u201c{one.condition}\u201d"
    answers += f" and is the {one.aim} that does" if one.aim == "cheapest" else ""
    return (
        f"({method_style(pick.trial.method).label}, {metric_label(study.cost)} {cost}){beside}. "
        f"{answers}; trained at {sure}.{doubt}"
    )


def _loss(one: PlainChoice, name: str) -> str:
    """Write for example "depth 1.6 % better (at fresh seeds 0.4 % better)".

    Of a model that fresh seeds have chosen "depth 0.4 % better (95 %: 0.6 % to 0.2 % better)".
    """
    assert one.pick is not None
    loss, _, interval = plain_words.fresh_text(one, name).partition(" (")
    again = f" (at fresh seeds {loss})" if loss else ""
    if one.by_fresh:
        again = f" ({interval}" if interval else ""
    return f"{task_in_words(name)} {plain_words.loss_text(one.pick, name)}{again}"


def _meaning(cost: str) -> str:
    """Write for example " Here density = kept / prunable weights."."""
    return f" Here {metric_label(cost)} = {report.describe(cost).description}."


def _head(name: str) -> tuple[str, ...]:
    arrow = "↑" if report.describe(name).direction == "maximize" else "↓"
    return (task_label(report.task_of(name)), f"{metric_label(name)}\u00a0{arrow}")


def _text(found: Findings, *, by_fresh: bool) -> str:
    has_dense = bool(found.fronts[0].dense)
    what = "the change compared with the dense model on validation, and below it the value"
    said = (
        f"For each task: {what if has_dense else 'the value on validation'}. \u0394_T is "
        f"{DELTA_MEANS}."
    )
    if has_dense:
        said += " The search tuned the sparse models, not the dense one; true losses may be larger."
    if fresh_seeds(found.confirmed):
        what = "\u201cfresh\u201d is the loss at fresh seeds, and its 95 % interval."
        if by_fresh:
            what = "All are means over fresh seeds, with 95 % intervals of the loss."
        ties = "Models are tied where no task tells them apart"
        if any(tied_at_few(found.ties, found.confirmed).values()):
            ties = f"With fewer than {ENOUGH_SEEDS} seeds, models often cannot be told apart"
        numbers = {number for one in found.plainly for number in one.tied}
        for trial in [trial for trial in found.study.trials if trial.number in numbers][:1]:
            ties += f"; #{trial.number} is {trial.trial}, and only models that meet a row's "
            ties += "condition are named in it"
        return f"{said} {what} {ties}."
    if found.confirmed:
        return f"{said} Each value is of one seed: all trainings at fresh seeds failed, see Health."
    return (
        f"{said} Each value is of one training, so small differences may be luck: "
        f"\u201c{confirm_command(found.study)}\u201d trains the front again at fresh seeds."
    )


def _speed(picked: Sequence[PlainChoice]) -> str:
    """Say what zeros do not buy, where a model has them; "" where that is not on record."""
    picks = [one.pick for one in picked if one.pick is not None]
    found = {_structure(p.study, p.trial) for p in picks if p.trial.method != "dense"}
    return _NO_FASTER if any(s == "weight" or ":" in s for s in found) else ""


def _structure(study: Study, trial: Trial) -> str:
    """Return what the trial prunes together, "weight", "2:4" or "channel"; "" if unknown."""
    name = "sparsity.structure"
    defaults = (study.facts.get("defaults") or {}).get(trial.method) or {}
    return str(trial.params.get(name) or defaults.get(name) or "")


def _rows(choices: Sequence[PlainChoice]) -> tuple[TakenRow, ...]:
    """Return a row for each; of a model that stands in one above, the losses alone, not values."""
    found: list[TakenRow] = []
    for row in map(_row, choices):
        cells = row.cells
        if row.trial and row.trial in {above.trial for above in found}:
            # Whom it is tied with differs: named is who meets the row's condition.
            cells = (*((cell[0],) for cell in cells[:-2]), *cells[-2:])
        found.append(replace(row, cells=cells))
    return tuple(found)


def _row(one: PlainChoice) -> TakenRow:
    pick = one.pick
    if pick is None:
        reason = " ".join([one.reason, *plain_words.remarks(one)])
        return TakenRow(condition=one.condition, aim=one.aim, command=one.command, reason=reason)
    study, look = pick.study, method_style(pick.trial.method)
    cells: list[tuple[str, ...]] = [(admitting(pick.trial.metrics[study.cost], study.cost),)]
    for name in study.qualities:
        lines = (plain_words.loss_text(pick, name), admitting(pick.trial.metrics[name], name))
        cells.append((*lines, *plain_words.fresh_lines(one, name)))
    delta = admitting(pick.delta_percent, f"val/{DELTA}")
    again = plain_words.fresh_delta_text(one)
    cells.append((delta if delta == "–" else f"{delta} %", *([f"fresh: {again}"] if again else [])))
    cells.append((*plain_words.seeds_parts(one), *plain_words.failed_parts(one)))
    return TakenRow(
        condition=one.condition,
        aim=one.aim,
        command=one.command,
        trial=pick.trial.trial,
        look=replace(look, label=look.label.replace(" ", "\u00a0")),  # in one line
        cells=tuple(cells),
        doubt=" ".join(plain_words.remarks(one)),
    )
