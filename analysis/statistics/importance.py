"""Find which parameters decide an objective: PED-ANOVA, less what chance alone would show.

For every objective, the best quarter of the trials that ran to their end is set against all of
them. A parameter matters as far as its values are distributed differently there (`ped_anova`). A
parameter that only some trials have is judged among these trials, so that the merit of having it at
all counts for the method.

Divergences between few trials are never zero, so we deviate from the paper: what remains on average
if the best trials are drawn by lot is subtracted, and the shares are of the rest. The same lots
test every parameter (permuted outcomes: Altmann et al., "Permutation importance: a corrected
feature importance measure", Bioinformatics 26, 2010), corrected for the number of parameters by the
largest standardised value of each lot (Westfall & Young, Resampling-Based Multiple Testing, 1993).

Effects are those of single parameters, not of combinations, within the values that the search chose
to try. Two parameters whose values went together share the credit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.statistics.ped_anova import Grid, divergences
from analysis.studies.trials import Study, Trial, is_value
from trainables import report

BEST_SHARE = 0.25
MAX_SHOWN = 20  # parameters that are drawn
# Among 17 parameters, one that explains three quarters of an objective's variance is distinguished
# from chance in 83 of 100 simulated studies of 30 trials, and in 45 of 100 of 20 trials.
MIN_TRIALS = 30
SIGNIFICANCE = 0.05
METHOD = "method"
SUMMARY = "Which of the parameters that were drawn decide each objective."
_NUM_LOTS = 400
_NUM_HALVES = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """Hold one parameter's importance for one objective.

    share: of the objective's importance, in [0, 1]; the shares of all parameters add up to 1,
      or are all 0 where none has more than chance.
    deviation: its standard deviation, by the delete-half jackknife (Shao & Wu, Annals of
      Statistics 17, 1989).
    divergence: PED-ANOVA's value; chance: its mean where the best trials are drawn by lot.
    p_value: how often a lot makes any parameter stand out as much, in (0, 1].
    num_trials: those that have the parameter.
    """

    objective: str
    parameter: str
    share: float
    deviation: float
    divergence: float
    chance: float
    p_value: float
    num_trials: int

    @property
    def is_told(self) -> bool:
        """Tell whether the importance is distinguishable from chance."""
        return self.p_value < SIGNIFICANCE


@dataclass(frozen=True, kw_only=True, slots=True)
class Importances:
    """Hold the importances of all parameters for all objectives.

    parameters: most important first, by the mean of their shares.
    items: one per objective and parameter, except for the objectives in `flat`.
    flat: objectives for which more than half of the trials share the best value.
    num_trials: how many ran to their end and were not dense.
    num_stopped: how many were stopped early; they are left out, as they trained for less.
    reason: why there are no items at all, None where there are.
    """

    objectives: tuple[str, ...]
    num_trials: int
    num_stopped: int
    parameters: tuple[str, ...] = ()
    items: tuple[Importance, ...] = ()
    flat: tuple[str, ...] = ()
    reason: str | None = None

    def of(self, objective: str) -> dict[str, Importance]:
        """Return the importances for one objective, by parameter."""
        return {item.parameter: item for item in self.items if item.objective == objective}


def measure(study: Study, trials: Sequence[Trial]) -> Importances:
    """Compute the importances among `trials` of the study.

    The trials are those that ran to their end with finite objectives, whether or not they met the
    constraints. The dense reference is left out: nothing of it was drawn. The order of trials,
    parameters and objectives makes no difference.
    """
    used = sorted((t for t in trials if t.method != "dense"), key=lambda t: t.number)
    found = Importances(
        objectives=study.objectives,
        num_trials=len(used),
        num_stopped=len(study.with_status("stopped")),
    )
    drawn = drawn_values(used)
    if len(used) < MIN_TRIALS:
        text = (
            f"Importance needs at least {MIN_TRIALS} trials that ran to the end, not counting "
            f"dense ones; the study has {len(used)}. With fewer, chance would decide what is shown."
        )
        return replace(found, reason=text)
    if not drawn:
        return replace(found, reason="No parameter differs between the trials that ran to the end.")
    grids = {name: Grid.of(seen) for name, seen in drawn.items()}
    methods_N = np.asarray([trial.method for trial in used])
    values = {
        name: [report.minimised(name, t.metrics[name]) for t in used] for name in study.objectives
    }
    flat = tuple(name for name in values if 2 * _best(np.asarray(values[name])).sum() > len(used))
    items = tuple(
        item
        for name in study.objectives
        if name not in flat
        for item in _of_objective(name, np.asarray(values[name]), methods_N, grids)
    )
    if not items:
        text = "For every objective, more than half of the trials share the best value."
        return replace(found, flat=flat, reason=text)
    sums = {name: math.fsum(i.share for i in items if i.parameter == name) for name in drawn}
    ordered = tuple(sorted(drawn, key=lambda name: (-sums[name], name)))
    return replace(found, parameters=ordered, items=items, flat=flat)


def explanation(found: Importances) -> str:
    """Say what the figure shows and how it was computed, in plain sentences."""
    text = (
        f"{SUMMARY} A parameter matters as far as its values in the best quarter of the trials "
        "are distributed differently from those in all trials (PED-ANOVA, Watanabe et al., IJCAI "
        "2023, arXiv 2304.10255). What chance alone would give is subtracted. Bars are shares of "
        "the rest, with one standard deviation by the delete-half jackknife. A bar is pale where "
        f"it is no better than chance (p ≥ {SIGNIFICANCE}, corrected for the number of "
        "parameters), whatever its length. A parameter that only some trials have is judged among "
        "these. All effects are those of one parameter at a time, within the values that were "
        "tried; two parameters whose values went together share the credit."
    )
    text += (
        f" Computed over the {found.num_trials} trials that ran to the end, dense ones excluded."
    )
    if found.num_stopped:
        are = "is" if found.num_stopped == 1 else "are"
        text += (
            f" {found.num_stopped} stopped early {are} left out, so a parameter that gets trials "
            "stopped matters more than is shown."
        )
    hidden = found.parameters[MAX_SHOWN:]
    if hidden:
        text += f" Not shown, as the least important: {', '.join(hidden)}."
    return text


def drawn_values(trials: Sequence[Trial]) -> dict[str, tuple[Any, ...]]:
    """Return every parameter that varied with its value by trial, None where a trial has none.

    The method is one of them. A parameter that never varies within a method is left out: its effect
    is the method's.
    """
    varying = _varying_by_method(trials)
    found: dict[str, tuple[Any, ...]] = {METHOD: tuple(trial.method for trial in trials)}
    for name in sorted(set().union(*varying.values())):
        found[name] = tuple(_value(trial, name) for trial in trials)
    return {name: values for name, values in found.items() if len({*values} - {None}) > 1}


def to_table(found: Importances) -> pa.Table:
    """Return one row per objective and parameter, with the fields of `Importance`."""
    columns: dict[str, pa.Array] = {}
    for field in fields(Importance):
        kinds: dict[Any, pa.DataType] = {str: pa.string(), float: pa.float64(), int: pa.int64()}
        values = [getattr(item, field.name) for item in found.items]
        columns[field.name] = pa.array(values, type=kinds[field.type])
    return pa.table(columns)


def _value(trial: Trial, name: str) -> Any:
    """Return a number or a text; None where the trial has no such parameter."""
    value = trial.params.get(name)
    if not is_value(name, value) or value != value:
        return None
    return value if isinstance(value, bool | int | float | str) else repr(value)


def _varying_by_method(trials: Sequence[Trial]) -> dict[str, set[str]]:
    """Return by method the parameters with at least two values among its trials."""
    values: dict[str, dict[str, set[Any]]] = {trial.method: {} for trial in trials}
    for trial in trials:
        for name in trial.params:
            value = _value(trial, name)
            if name not in (METHOD, "seed") and value is not None:
                values[trial.method].setdefault(name, set()).add(value)
    return {
        method: {name for name, seen in by_name.items() if len(seen) > 1}
        for method, by_name in values.items()
    }


def _of_objective(
    objective: str,
    values_N: NDArray[np.float64],
    methods_N: NDArray[np.str_],
    grids: Mapping[str, Grid],
) -> list[Importance]:
    # The same lots for every objective, whatever the others are.
    generator = np.random.default_rng(0)
    everyone_1N = np.ones((1, len(values_N)), dtype=bool)
    best_1N = _best(values_N)[None, :]
    lots = _lots(best_1N.repeat(_NUM_LOTS, axis=0), everyone_1N, methods_N, generator)
    found_P = _divergences(grids, best_1N, best_1N, everyone_1N)[0]
    lots_LP = _divergences(grids, *lots, everyone_1N)
    chance_P = lots_LP.mean(axis=0)
    shares_P = _shares(found_P, chance_P)
    deviations_P = _deviations(values_N, methods_N, grids, generator)
    p_values_P = _p_values(found_P, lots_LP)
    return [
        Importance(
            objective=objective,
            parameter=name,
            share=float(shares_P[place]),
            deviation=float(deviations_P[place]),
            divergence=float(found_P[place]),
            chance=float(chance_P[place]),
            p_value=float(p_values_P[place]),
            num_trials=int(grid.cells_NG.sum()),
        )
        for place, (name, grid) in enumerate(grids.items())
    ]


def _divergences(
    grids: Mapping[str, Grid],
    best_LN: NDArray[np.bool_],
    best_of_methods_LN: NDArray[np.bool_],
    among_LN: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return (L, P) for P parameters; the method is judged by `best_of_methods_LN`."""
    columns = [
        divergences(grid, best_of_methods_LN if name == METHOD else best_LN, among_LN)
        for name, grid in grids.items()
    ]
    return np.stack(columns, axis=1)


def _lots(
    best_LN: NDArray[np.bool_],
    among_LN: NDArray[np.bool_],
    methods_N: NDArray[np.str_],
    generator: np.random.Generator,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw as many best trials by lot from the same trials.

    The first answer draws as many of each method as are among the best, so that a method's merit
    does not pass to the parameters that come with it. The second, for the method itself, draws from
    all.
    """
    within_LN, freely_LN = best_LN.copy(), best_LN.copy()
    among_LN = np.broadcast_to(among_LN, best_LN.shape)
    methods = np.unique(methods_N)
    for row, among_N in enumerate(among_LN):
        for method in methods:
            places = np.flatnonzero(among_N & (methods_N == method))
            within_LN[row, places] = generator.permutation(best_LN[row, places])
        places = np.flatnonzero(among_N)
        freely_LN[row, places] = generator.permutation(best_LN[row, places])
    return within_LN, freely_LN


def _best(values_N: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the best quarter of the values (the lowest), with all that tie with its worst."""
    place = math.ceil(BEST_SHARE * len(values_N)) - 1
    best_N: NDArray[np.bool_] = values_N <= np.partition(values_N, place)[place]
    return best_N


def _shares(found_P: NDArray[np.float64], chance_P: NDArray[np.float64]) -> NDArray[np.float64]:
    beyond_P = np.maximum(found_P - chance_P, 0.0)
    total = beyond_P.sum()
    shares_P: NDArray[np.float64] = beyond_P / total if total > 0 else beyond_P
    return shares_P


def _p_values(found_P: NDArray[np.float64], lots_LP: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p against the largest standardised value of each lot (Westfall & Young's maxT)."""
    means_P, deviations_P = lots_LP.mean(axis=0), lots_LP.std(axis=0)
    # Nothing is known of a parameter that no lot can change.
    scale_P = np.where(deviations_P > 1e-9, deviations_P, math.inf)
    largest_L = ((lots_LP - means_P) / scale_P).max(axis=1)
    as_large_P = (largest_L[:, None] >= (found_P - means_P) / scale_P).sum(axis=0)
    p_values_P: NDArray[np.float64] = (1 + as_large_P) / (1 + len(lots_LP))
    return p_values_P


def _deviations(
    values_N: NDArray[np.float64],
    methods_N: NDArray[np.str_],
    grids: Mapping[str, Grid],
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the deviations of the shares by the delete-half jackknife.

    These are deviations over random halves of the trials. It is no bootstrap: trials that count
    twice would look like a pattern.
    """
    count = len(values_N)
    halves_LN = np.zeros((_NUM_HALVES, count), dtype=bool)
    best_LN = halves_LN.copy()
    for half_N, best_N in zip(halves_LN, best_LN, strict=True):
        half_N[generator.permutation(count)[: count // 2]] = True
        best_N[half_N] = _best(values_N[half_N])
    found_LP = _divergences(grids, best_LN, best_LN, halves_LN)
    lots = _lots(best_LN, halves_LN, methods_N, generator)
    chance_P = _divergences(grids, *lots, halves_LN).mean(axis=0)
    deviations_P: NDArray[np.float64] = np.std(
        [_shares(found_P, chance_P) for found_P in found_LP], axis=0
    )
    return deviations_P
