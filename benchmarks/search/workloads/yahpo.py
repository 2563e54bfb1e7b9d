"""Tasks that others wrote: YAHPO's surrogates with the objectives and budgets of CARP-S.

`tasks.json` holds multi-objective multi-fidelity tasks after CARP-S 1.1.0 (Benjamins et al. 2025,
"carps: A Framework for Comparing N Hyperparameter Optimizers on M Benchmarks"). Nothing of these
is known with the configuration: both objectives have to be learned, no starting point is given,
and reports are what the surrogate says at a fidelity (a share of the data, repetitions, or
epochs), without noise. A fidelity that is not varied is at its maximum.

Their true fronts are not known. The scale of a task has as its ideal the best values among 20,000
random configurations and generations of mutants of the best, and as its nadir the 95 % quantiles
of the random ones; the non-dominated of all these are the front that IGD+ is measured from.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.indicators import Normalisation
from analysis.statistics.pareto import non_dominated
from benchmarks.search.workloads.mutation import mutated
from benchmarks.search.workloads.workload import Report
from benchmarks.search.workloads.yahpo_models import COLUMNS, data_folder, get_model
from spaces.space import Parameter, Space, When
from trainables.errors import UserError, unknown_name
from trainables.seeds import derive_seed

_REPORTS_OF_A_SHARE = 27  # reports a length where the fidelity is a share of the data
_FULL = {"trainsize": 1.0, "repl": 10}
_NUM_RANDOM = 20_000
_NUM_GENERATIONS, _NUM_MUTANTS = 6, 3_000
_NADIR_QUANTILE = 0.95
_KINDS = {"uniform_float": "float", "uniform_int": "int", "categorical": "categorical"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A `Workload`.

    fixed: the instance and the fidelities that are not varied.
    fidelity_T: the fidelity at each report.
    evaluations: CARP-S's budget, in full lengths.
    """

    name: str
    model: str
    objectives: tuple[str, ...]
    space: Space = field(repr=False)
    fixed: Mapping[str, Any]
    fidelity: str
    fidelity_T: tuple[float, ...] = field(repr=False)
    evaluations: int

    @property
    def title(self) -> str:
        """The name in the document."""
        return self.name

    @property
    def num_objectives(self) -> int:
        """How many objectives there are."""
        return len(self.objectives)

    @property
    def num_epochs(self) -> int:
        """The full length of a trial, in reports."""
        return len(self.fidelity_T)

    @property
    def constrained(self) -> bool:
        """Whether trials have to meet a constraint."""
        return False

    @property
    def normalisation(self) -> Normalisation:
        """What scales the objectives, see the module."""
        return _sampled(self.name)[0]

    def front(self) -> NDArray[np.float64]:
        """The best that was found by sampling (F, M)."""
        return _sampled(self.name)[1]

    def values(
        self, params: Sequence[Mapping[str, Any]], fidelities: Sequence[float]
    ) -> NDArray[np.float64]:
        """The objectives (N, M), minimised, of configurations at fidelities."""
        asked = [
            {**self.fixed, **given, self.fidelity: at}
            for given, at in zip(params, fidelities, strict=True)
        ]
        return get_model(self.model).predict(asked, self.objectives)

    def final(self, params: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """The objectives (N, M) at full length."""
        return self.values(params, [self.fidelity_T[-1]] * len(params))

    def start(self, params: Mapping[str, Any], seed: int) -> "Curve":
        """Begin a trial; it is the same for every seed."""
        return Curve(self.values([params] * self.num_epochs, self.fidelity_T))


class Curve:
    """One simulated trial. values_TM: by report."""

    def __init__(self, values_TM: NDArray[np.float64]) -> None:
        self._values_TM = values_TM
        self._epoch = 0

    def next_report(self) -> Report:
        """Train one report further, and return it."""
        values = tuple(self._values_TM[self._epoch].tolist())
        self._epoch += 1
        fraction = self._epoch / len(self._values_TM)
        return Report(epoch=self._epoch, fraction=fraction, values=values, worth=values)


def get_task(name: str) -> Task:
    """Raises `UserError` for an unknown name, or where the data are not there."""
    known = tasks()
    if name not in known:
        raise unknown_name("task of YAHPO", name, known)
    return known[name]


def tasks() -> dict[str, Task]:
    """Every task of `tasks.json`, by name. Raises `UserError` where the data are not there."""
    path = data_folder() / "tasks.json"
    return _read(path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=1)
def _read(text: str) -> dict[str, Task]:
    found = (_task(described) for described in json.loads(text))
    return {task.name: task for task in found}


def _task(described: Mapping[str, Any]) -> Task:
    model, fidelity = described["model"], described["fidelity"]["name"]
    name = f"{model}-{described['instance']}-{fidelity}"
    if described["forbidden"]:
        raise UserError(f"the task {name!r} forbids combinations, which no space here can express")
    constants = {p["name"]: p["value"] for p in described["space"] if p["type"] == "constant"}
    unvaried = {n: at for n, at in _FULL.items() if n in COLUMNS[model].continuous}
    full = described["fidelity"]["max"]
    num_reports = _REPORTS_OF_A_SHARE if fidelity == "trainsize" else int(full)
    return Task(
        name=name,
        model=model,
        objectives=tuple(described["objectives"]),
        space=Space(name=name, doc=described["task"], parameters=_parameters(described)),
        fixed={**unvaried, **constants},
        fidelity=fidelity,
        fidelity_T=tuple(full * k / num_reports for k in range(1, num_reports + 1)),
        evaluations=int(described["evaluations"]),
    )


def _parameters(described: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Parents first; otherwise in the given order."""
    conditions: dict[str, list[When]] = {}
    for given in described["conditions"]:
        values = tuple(given["values"]) if given["type"] == "IN" else (given["value"],)
        when = When(name=given["parent"], values=values)
        conditions.setdefault(given["child"], []).append(when)
    waiting = [p for p in described["space"] if p["type"] != "constant"]
    ordered: dict[str, Parameter] = {}
    while waiting:
        ready = [
            p
            for p in waiting
            if all(when.name in ordered for when in conditions.get(p["name"], ()))
        ]
        if not ready:
            raise UserError(
                f"conditions of the task {described['task']!r} name no parameter or go in a circle"
            )
        for given in ready:
            when_all = tuple(conditions.get(given["name"], ()))
            ordered[given["name"]] = _parameter(given, when_all)
        waiting = [p for p in waiting if p["name"] not in ordered]
    return tuple(ordered.values())


def _parameter(given: Mapping[str, Any], when: tuple[When, ...]) -> Parameter:
    kind: Any = _KINDS[given["type"]]
    common = {"name": given["name"], "kind": kind, "doc": "", "when": when}
    if kind == "categorical":
        return Parameter(choices=tuple(given["choices"]), default=given["default_value"], **common)
    low, high = given["lower"], given["upper"]
    default = min(max(given["default_value"], low), high)  # some are rounded out of the range
    return Parameter(low=low, high=high, log=given["log"], default=default, **common)


@functools.cache
def _sampled(name: str) -> tuple[Normalisation, NDArray[np.float64]]:
    """Return the scale and the best that is known (F, M)."""
    task = get_task(name)
    generator = np.random.default_rng(derive_seed(0, "data", 0))
    params = [mutated(task.space, {}, 1.0, generator) for _ in range(_NUM_RANDOM)]
    values_NM = task.final(params)
    nadir_M = np.quantile(values_NM, _NADIR_QUANTILE, axis=0)
    for generation in range(_NUM_GENERATIONS):
        best = np.flatnonzero(non_dominated(values_NM))
        step = 0.2 * 0.5**generation
        chosen = generator.choice(best, size=_NUM_MUTANTS)
        mutants = [mutated(task.space, params[i], step, generator) for i in chosen]
        values_NM = np.vstack([values_NM[best], task.final(mutants)])
        params = [*(params[i] for i in best), *mutants]
    front_FM = values_NM[non_dominated(values_NM)]
    scale = Normalisation(ideal=tuple(front_FM.min(axis=0).tolist()), nadir=tuple(nadir_M.tolist()))
    return scale, front_FM
