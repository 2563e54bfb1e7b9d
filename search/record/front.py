"""Which trials of a record are on its front."""

from collections.abc import Iterable, Sequence

from optuna.trial import FrozenTrial

from analysis.statistics.pareto import non_dominated
from trainables.report import describe

CONFIRMS = "confirms"  # the attribute of a trial that repeats another one, by that one's number


def is_confirmation(trial: FrozenTrial) -> bool:
    """Return whether the trial repeats another one at a fresh seed."""
    return CONFIRMS in trial.user_attrs


def is_complete(trial: FrozenTrial) -> bool:
    """Return whether the trial ran to its end, with a value for every objective."""
    return trial.user_attrs.get("status") == "complete" and bool(trial.values)


def front_of(
    trials: Iterable[FrozenTrial], objectives: Sequence[str], among: Sequence[str] = ()
) -> list[int]:
    """Return the numbers of the non-dominated among the complete trials, sorted.

    Confirmations are not among them. objectives: all of the study. among: those that are compared;
    all if none is given.
    """
    complete = [t for t in trials if is_complete(t) and not is_confirmation(t)]
    if not complete:
        return []
    columns = [(describe(n).sign, objectives.index(n)) for n in among or objectives]
    values = [[sign * t.values[at] for sign, at in columns] for t in complete]
    return sorted(t.number for t, on in zip(complete, non_dominated(values), strict=True) if on)
