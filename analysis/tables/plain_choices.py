"""Say what to take from a front under plain conditions: the report's first screen, and in `pick`.

A condition is a loss that every task may have, a share of the dense network's cost, or the knee.
Models are chosen as `choice` chooses: by their means over fresh seeds where the whole front has
them, else by their values at selection. What fresh seeds say of the losses stands beside these, and
where they do not bear a condition out, that is said.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.labels import (
    admitting,
    losing,
    metric_label,
    task_in_words,
)
from analysis.statistics.candidates import Candidates, candidates
from analysis.statistics.choice import Choice, choose
from analysis.statistics.comparing.comparison import Interval
from analysis.statistics.conditions import parse_conditions
from analysis.statistics.eligible import dense_trials
from analysis.statistics.uncertainty.confirmed import tied_at_few, tied_with
from analysis.statistics.uncertainty.doubts import (
    failures,
    missed_bounds,
    missed_constraints,
    missed_losses,
    possible_losses,
)
from analysis.statistics.uncertainty.losses import fresh_delta, fresh_losses
from analysis.studies.systems_by_seed import DELTA
from analysis.studies.trials import Study, Trial
from analysis.tables.picked import Pick
from trainables import report
from trainables.errors import UserError
from trainables.terminal.as_typed import study_command

_LOSSES = (1.0, 5.0)  # percent of the dense model's value that every task may lose
# Costs that are shares of the dense network's, and the percentage that is asked for.
_SHARES = {"cost/density": 10, "cost/latency_fraction": 50, "cost/flops_fraction": 50}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainChoice:
    """Hold what one condition takes.

    condition: in words. aim: what is best among those that meet it, "" for the knee. max_loss: its
    bound on losses in percent, if that is what it is. pick: the model; None where none meets it,
    and `reason` then says why. command: which makes the same choice in a terminal. fresh: by
    objective, the loss at fresh seeds in percent of the dense model's mean there: its mean, and its
    95 % interval, paired by seed; empty where one of both is not confirmed. fresh_delta: the mean
    of Δ_T there, else NaN. num_seeds: how many fresh seeds the model has. num_failed: at how many
    more its training failed. tied: numbers of the members that meet the bounds as well, and that no
    quality tells apart from it. undecided: those that too few seeds are shared with to call that a
    tie. doubt: what fresh seeds say against it, else empty. unsure: how much more than asked for it
    may lose, where the mean over fresh seeds loses no more, else empty. by_fresh: whether fresh
    seeds chose, whose means are the metrics of `pick` then. before: what the values at selection
    take instead, else empty.
    """

    condition: str
    aim: str
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
    unsure: str = ""
    by_fresh: bool = False
    before: str = ""

    @property
    def without_sparse(self) -> str:
        """Say so where the dense model alone, or none, loses as little as is asked for; else ""."""
        if self.max_loss is None or (self.pick is not None and not self.pick.only_dense):
            return ""
        return f"No sparse model of the front loses at most {self.max_loss:g} % on every task."


def choices(study: Study, among: Candidates | None = None) -> tuple[PlainChoice, ...]:
    """Choose under every plain condition that the study can answer; nothing without a front.

    among: the study's `candidates`, where they are known already.
    """
    among = candidates(study) if among is None else among
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
    aim = "" if best is None else "cheapest" if best == study.cost else "best Δ_T"
    none = PlainChoice(
        condition=words,
        aim=aim,
        command=command,
        max_loss=max_loss,
        pick=None,
        fresh={},
        by_fresh=bool(among.seeds),
    )

    def choose_among(some: Candidates) -> Choice[Trial]:
        asked = [where] if where else []
        bounds = parse_conditions(asked, max_loss, study.objectives, some.dense)
        return choose(some.trials, study.objectives, bounds, best, by_fresh=bool(some.seeds))

    known = among.known
    references = [known[t.trial] for t in dense_trials(study) if t.trial in known]
    reference = next((one for one in references if one.runs), None)

    def losses(trial: Trial) -> dict[str, tuple[float, Interval]]:
        one = known.get(trial.trial)
        return fresh_losses(one, reference, study.qualities) if one and reference else {}

    def before(now: Trial | None) -> str:
        try:
            then = choose_among(among.selected).trial if among.selected is not None else now
        except UserError:
            return "" if now is None else "Before fresh seeds no model met it."
        if then is None or (now is not None and now.trial == then.trial):
            return ""
        cost = f"{metric_label(study.cost)} {admitting(then.metrics[study.cost], study.cost)}"
        why = _why_not(max_loss, losses(then))
        if best == DELTA and then.trial in known:
            delta = fresh_delta(known[then.trial], reference, study.qualities)
            why = f"; at fresh seeds its Δ_T is {admitting(delta, f'val/{DELTA}')} %"
        return f"Before fresh seeds it was {then.trial} ({cost}){why}."

    try:
        chosen = choose_among(among)
    except UserError as error:
        return replace(none, reason=str(error), before=before(None))
    bounds = chosen.conditions
    pick = Pick(study=study, choice=chosen, dense=among.dense)
    own = known.get(pick.trial.trial)
    fresh, delta, doubts, unsure = {}, math.nan, [], ""
    tied: tuple[int, ...] = ()
    undecided: tuple[int, ...] = ()
    if own is not None:
        name = pick.trial.trial
        tied = tied_with(own, chosen.admitted, known, study.qualities)
        undecided = tied_at_few({name: tied}, known)[name]
        fresh = losses(pick.trial)
        delta = fresh_delta(own, reference, study.qualities)
        doubts = [failures(study, own)] if own.failed else []
        doubts += missed_constraints(study, own)
        missed = missed_losses(own, bounds, max_loss, fresh) if max_loss is not None else []
        if max_loss is not None and among.seeds and not missed:
            unsure = possible_losses(fresh, max_loss)
        doubts += missed
        doubts += missed_bounds(own, bounds) if max_loss is None else []
    return replace(
        none,
        pick=pick,
        fresh=fresh,
        fresh_delta=delta,
        num_seeds=len(own.runs) if own else 0,
        num_failed=len(own.failed) if own else 0,
        tied=tied,
        undecided=undecided,
        doubt=" ".join(f"{said[0].upper()}{said[1:]}." for said in doubts),
        unsure=unsure,
        before=before(pick.trial),
    )


def _why_not(max_loss: float | None, losses: Mapping[str, tuple[float, Interval]]) -> str:
    """Say what loses more at fresh seeds than is asked for, if that is what is asked for."""
    if max_loss is None or not losses:
        return ""
    worst = max(losses, key=lambda name: losses[name][0])
    if losses[worst][0] <= max_loss:
        return ""
    task = task_in_words(worst)
    return f"; at fresh seeds that is {losing(losses[worst][0])} in {task}"


def _command(study: Study, where: str | None, max_loss: float | None, best: str | None) -> str:
    words = ["--where", where] if where else []
    words += ["--max-loss", f"{max_loss:g}"] if max_loss is not None else []
    words += ["--best", report.without_split(best)] if best else []
    return study_command("analysis pick", study.name, study.directory.parent, *words)
