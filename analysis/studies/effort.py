"""Count what a study has spent by the time each of its complete trials ended, in epochs and hours.

An epoch is a pass over the training split, pre-training included, as trials report it
(`training/epochs`, cumulative). Trials that were stopped, failed or missed a constraint have
spent theirs as well.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from analysis.studies.trials import Study, Trial

EPOCHS = "training/epochs"
# The statuses of trials that trained, and so have reported epochs.
_TRAINED = ("complete", "infeasible", "stopped")
_UNITS = ((2 * 3600.0, "hours", 3600.0), (120.0, "minutes", 60.0), (0.0, "seconds", 1.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """Hold the places of complete trials, in the order they ended, along one kind of effort.

    places: one per trial, ascending. start, end: where the line that joins them begins and ends.
    """

    label: str
    places: tuple[float, ...]
    start: float
    end: float
    whole: bool  # counted in whole numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class Epochs:
    """Hold the epochs that all finished trials spent, and those saved by stopping trials early.

    saved: what the stopped trials had still to train.
    exact: False where the record does not say how much of a stopped trial's epochs was
      pre-training; `saved` is then an upper bound.
    num_unknown: failed trials without epochs on record, which count for nothing.
    """

    spent: float
    saved: float
    exact: bool
    num_unknown: int


def epochs_of(trial: Trial) -> float:
    """Return the epochs that a trial has reported; NaN where it has reported none."""
    return trial.metrics.get(EPOCHS, math.nan)


def by_trials(ended: Sequence[Trial]) -> Course:
    """Count the complete trials alone, from 1."""
    count = len(ended)
    return Course(
        label="complete trials, in the order they ended",
        places=tuple(float(i) for i in range(1, count + 1)),
        start=1.0,
        end=float(count),
        whole=True,
    )


def by_epochs(study: Study, ended: Sequence[Trial]) -> Course | None:
    """Count the epochs of all trials that had ended by then.

    None where a trial that trained has no epochs on record (studies of older releases), or where
    the time of its end is missing.
    """
    spent = count_epochs(study)
    if spent is None or any(trial.ended is None for trial in ended):
        return None
    known = [(t.ended, epochs_of(t)) for t in _finished(study) if math.isfinite(epochs_of(t))]
    dated = sorted((at, epochs) for at, epochs in known if at is not None)
    moments = [at for at, _ in dated]
    sums = [0.0]
    for _, epochs in dated:
        sums.append(sums[-1] + epochs)
    places = tuple(sums[bisect_right(moments, t.ended)] for t in ended if t.ended is not None)
    return Course(
        label="epochs of all trials", places=places, start=0.0, end=spent.spent, whole=False
    )


def by_time(study: Study, ended: Sequence[Trial]) -> Course | None:
    """Measure the time since the first trial began, pauses included; None without times."""
    begun = [t.started for t in study.trials if t.started is not None]
    ends = [t.ended for t in ended if t.ended is not None]
    if not begun or not ends or len(ends) < len(ended):
        return None
    first = min(begun)
    last = max(t.ended for t in _finished(study) if t.ended is not None)
    unit, divisor = _unit(first, last)
    return Course(
        label=f"{unit} since the first trial began",
        places=tuple((end - first).total_seconds() / divisor for end in ends),
        start=0.0,
        end=(last - first).total_seconds() / divisor,
        whole=False,
    )


def count_epochs(study: Study) -> Epochs | None:
    """Count the epochs spent and saved.

    None where a trial that trained has no epochs on record, or where no trial has trained.
    """
    trained = study.with_status(*_TRAINED)
    if not trained or not all(math.isfinite(epochs_of(t)) for t in trained):
        return None
    failed = study.with_status("failed")
    known = [e for t in (*trained, *failed) if math.isfinite(e := epochs_of(t))]
    saved = [_saved(trial) for trial in study.with_status("stopped")]
    return Epochs(
        spent=math.fsum(known),
        saved=math.fsum(epochs for epochs, _ in saved),
        exact=all(exact for _, exact in saved),
        num_unknown=len(trained) + len(failed) - len(known),
    )


def _saved(trial: Trial) -> tuple[float, bool]:
    """Epochs that a stopped trial had still to train, and whether that is exact.

    After a fraction f of S steps of training that followed P of pre-training, e epochs were
    spent, so e·(1 − f)·S / (P + f·S) were to come. Without S and P it is at most e·(1 − f) / f.
    """
    epochs, fraction = epochs_of(trial), trial.fraction
    if not 0 < fraction < 1:
        return 0.0, fraction == 1
    steps = trial.params.get("training.steps")
    pretraining = trial.params.get("training.pretrain_steps")
    if isinstance(steps, int) and isinstance(pretraining, int):
        return epochs * (1 - fraction) * steps / (pretraining + fraction * steps), True
    return epochs * (1 - fraction) / fraction, False


def _finished(study: Study) -> tuple[Trial, ...]:
    return study.with_status(*_TRAINED, "failed")


def _unit(first: datetime, last: datetime) -> tuple[str, float]:
    seconds = max(0.0, (last - first).total_seconds())
    return next((unit, divisor) for least, unit, divisor in _UNITS if seconds >= least)
