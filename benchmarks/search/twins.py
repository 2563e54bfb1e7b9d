"""Tasks that differ in their fidelity alone, where one run tells of both.

A search that trains every trial at full length proposes the same on both, for it sees the same
values, and trials that last in proportion end in the same order. Two of YAHPO's tasks are such
twins, and qLogNEHVI takes ten minutes a run there. Only the epochs at which trials end differ,
and the simulator counts them anew.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.search.simulator import Trace, simulate
from benchmarks.search.workloads import yahpo
from benchmarks.search.workloads.workload import Report

_NUMBER = "number"


def twin_of(task: yahpo.Task) -> str | None:
    """Return the name of the task that is this one at full length; None where there is none."""
    for other in yahpo.tasks().values():
        if other.name != task.name and _at_full_length(other) == _at_full_length(task):
            return other.name
    return None


def counted_anew(
    kept: Trace, task: yahpo.Task, *, budget_epochs: int, concurrency: int, seed: int
) -> Trace | None:
    """Return what `kept`, of the task's twin, is on `task`; it repeats the seconds of thinking.

    None where a trial ends here that had not ended there.
    """
    trace = simulate(
        _Repeated(task, kept),
        _Numbering(),
        budget_epochs=budget_epochs,
        concurrency=concurrency,
        seed=seed,
    )
    if any(math.isnan(value) for one in trace.completions for value in one.worth):
        return None
    return replace(trace, thinking_seconds=kept.thinking_seconds[: trace.num_trials])


def _at_full_length(task: yahpo.Task) -> tuple[object, ...]:
    """What a trial at full length depends on."""
    fixed = {**task.fixed, task.fidelity: task.fidelity_T[-1]}
    return task.model, task.objectives, task.space.parameters, task.space.fixed, fixed


class _Numbering:
    """A search whose configurations are the numbers of trials."""

    def ask(self, number: int) -> Mapping[str, Any]:
        return {_NUMBER: number}

    def keep(self, number: int, report: Report) -> bool:
        return True

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        pass


class _Repeated:
    """A workload whose trials end as they did; one that had not ended, with NaN."""

    constrained = False

    def __init__(self, task: yahpo.Task, kept: Trace) -> None:
        self.name, self.title, self.space = task.name, task.title, task.space
        self.num_objectives, self.num_epochs = task.num_objectives, task.num_epochs
        self._ends = {one.number: one.worth for one in kept.completions}

    def start(self, params: Mapping[str, Any], seed: int) -> yahpo.Curve:
        unknown = (math.nan,) * self.num_objectives
        return yahpo.Curve(np.tile(self._ends.get(params[_NUMBER], unknown), (self.num_epochs, 1)))
