"""Put the trials of several studies on one front, each relative to its own dense model.

Studies differ in more than they search: in length of training, network or data. Every quality is
therefore the difference to the mean of the study's own dense trials, so that all dense models lie
at 0. Where a study has no dense trial, all values stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.eligible import dense_trials, eligible
from analysis.statistics.pareto import non_dominated_order
from analysis.studies.trials import Study, Trial
from trainables import report
from trainables.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """Hold a trial of one of the studies with its values by objective, aligned if all are."""

    study: str
    trial: Trial
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Several:
    """Hold the trials of several studies on the objectives that all of them have.

    dense: by study and quality, the mean of its dense trials; empty for a study without any.
    members: of the joint front of all studies together, cheapest first.
    """

    studies: tuple[str, ...]
    qualities: tuple[str, ...]
    cost: str
    dense: Mapping[str, Mapping[str, float]]
    placed: tuple[Placed, ...]
    members: tuple[Placed, ...]
    notes: tuple[str, ...]

    @property
    def aligned(self) -> bool:
        """Tell whether qualities are differences to the study's own dense model."""
        return all(self.dense.values())

    def front(self, quality: str, study: str | None = None) -> tuple[Placed, ...]:
        """Return the front of one quality against the cost, of all studies or one of them."""
        among = [one for one in self.placed if study in (None, one.study)]
        return _front(among, (self.cost, quality))


def together(studies: Sequence[Study]) -> Several:
    """Put the eligible trials of the studies on one front.

    Raises `UserError` where their data sets or their costs differ, where they share no task, where
    one is named twice, and where none has a complete trial.
    """
    names = tuple(study.name for study in studies)
    if len(set(names)) < len(names):
        raise UserError(
            f"each study can be named once, got {', '.join(names)}; leave out the repeated one"
        )
    _check_same(
        "data set", "compare studies of one", [(s.name, s.facts.get("dataset")) for s in studies]
    )
    _check_same("cost", "name one with --cost", [(s.name, s.cost) for s in studies])
    qualities = tuple(q for q in studies[0].qualities if all(q in s.qualities for s in studies))
    if not qualities:
        listed = "; ".join(f"{s.name} has {', '.join(s.qualities)}" for s in studies)
        raise UserError(f"studies on one front must share a task, but {listed}; name others")
    cost = studies[0].cost
    dense = {study.name: _dense_levels(study, qualities) for study in studies}
    aligned = all(dense.values())
    placed = tuple(
        Placed(
            study=study.name,
            trial=trial,
            values={cost: trial.metrics[cost]}
            | {q: trial.metrics[q] - (dense[study.name][q] if aligned else 0.0) for q in qualities},
        )
        for study in studies
        for trial in eligible(study)
    )
    if not placed:
        raise UserError(
            f"studies on one front must have a complete trial, but {', '.join(names)} have none; "
            "run or resume one first"
        )
    notes = [note for study in studies for note in study.notes]
    lacking = [name for name, levels in dense.items() if not levels]
    if lacking:
        notes.append(
            f"{', '.join(lacking)} has no dense trial, so values are not relative to the dense "
            "models: studies that trained differently do not compare."
        )
    left_out = sorted({q for s in studies for q in s.qualities} - set(qualities))
    if left_out:
        notes.append(f"Left out, as not all studies have it: {', '.join(left_out)}.")
    return Several(
        studies=names,
        qualities=qualities,
        cost=cost,
        dense=dense,
        placed=placed,
        members=_front(placed, (cost, *qualities)),
        notes=tuple(notes),
    )


def _check_same(what: str, remedy: str, values: Sequence[tuple[str, object]]) -> None:
    if len({value for _, value in values}) > 1:
        listed = ", ".join(f"{value} in {name}" for name, value in values)
        raise UserError(f"studies on one front must have the same {what}, got {listed}; {remedy}")


def _dense_levels(study: Study, qualities: Sequence[str]) -> dict[str, float]:
    trials = dense_trials(study)
    if not trials:
        return {}
    return {q: float(np.mean([trial.metrics[q] for trial in trials])) for q in qualities}


def _front(placed: Sequence[Placed], names: Sequence[str]) -> tuple[Placed, ...]:
    rows = [[report.minimised(name, one.values[name]) for name in names] for one in placed]
    values_NM = np.asarray(rows, dtype=float).reshape(len(placed), len(names))
    return tuple(placed[index] for index in non_dominated_order(values_NM))
