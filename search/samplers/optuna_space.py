"""Infers from the trials of an Optuna study what its objective draws, and when.

An objective of Optuna says what it draws while it runs, so that nobody knows its space beforehand.
Where a parameter was drawn in some trials alone, a categorical or whole-numbered one is looked for
whose values tell these trials from the others; that is taken for the condition. Parameters
without such a condition are left out: they are drawn independently of the rest.

Choices are known by their places, since those of Optuna may be equal as numbers or unhashable.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from spaces.space import Parameter, Space, When

_WHOLE = (TrialState.COMPLETE, TrialState.PRUNED)  # others may not have drawn all


class InferredSpace:
    """What the objective of a study draws, by its trials so far.

    distributions: of the parameters of `space`, as last seen.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        whole = [trial for trial in trials if trial.state in _WHOLE]
        last: dict[str, BaseDistribution] = {}
        for trial in whole:
            last.update(trial.distributions)
        drawn = [self._places(trial, last) for trial in whole]
        parameters = _ordered(drawn, last)
        self.distributions = {parameter.name: last[parameter.name] for parameter in parameters}
        self.space = Space(name="optuna", doc="inferred", parameters=parameters)

    def places(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return a trial's values as `space` has them; of what is not in it, nothing."""
        return self._places(trial, self.distributions)

    def values(self, places: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of `space` as Optuna has them, on the grid of a range that has steps."""
        return {name: _value(self.distributions[name], place) for name, place in places.items()}

    @staticmethod
    def _places(trial: FrozenTrial, known: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        """Leave out choices of another list: they have other places."""
        found = {}
        for name, value in trial.params.items():
            distribution = known.get(name)
            if isinstance(distribution, CategoricalDistribution):
                if trial.distributions[name] == distribution:
                    found[name] = int(distribution.to_internal_repr(value))
            elif distribution is not None:
                found[name] = value
        return found


def _ordered(
    drawn: Sequence[Mapping[str, Any]], distributions: Mapping[str, BaseDistribution]
) -> tuple[Parameter, ...]:
    """Return the parameters that can be explained, each after those that it depends on."""
    found: dict[str, Parameter] = {}
    waiting = sorted(distributions)
    while waiting:
        explained = {
            name: when
            for name in waiting
            if (when := _condition(name, drawn, list(found.values()))) is not None
        }
        if not explained:
            break
        for name, when in explained.items():
            found[name] = _parameter(name, distributions[name], when)
        waiting = [name for name in waiting if name not in explained]
    return tuple(found.values())


def _condition(
    name: str, drawn: Sequence[Mapping[str, Any]], earlier: Sequence[Parameter]
) -> tuple[When, ...] | None:
    """Return when a parameter is drawn: always, or by one of `earlier`; None if neither fits."""
    if all(name in places for places in drawn):
        return ()
    for parent in sorted(earlier, key=lambda one: (one.kind != "categorical", one.name)):
        if parent.kind == "float" or any(
            name in places and parent.name not in places for places in drawn
        ):
            continue
        having = [places for places in drawn if parent.name in places]
        with_it = {places[parent.name] for places in having if name in places}
        without = {places[parent.name] for places in having if name not in places}
        if with_it and not with_it & without:
            return (When(name=parent.name, values=_spread(parent, with_it, without)),)
    return None


def _spread(parent: Parameter, with_it: set[Any], without: set[Any]) -> tuple[Any, ...]:
    """Return the values to draw at; of whole numbers on one side of a threshold, all there."""
    if parent.kind == "int" and without:
        assert parent.low is not None
        assert parent.high is not None
        if min(with_it) > max(without):
            return tuple(range(min(with_it), int(parent.high) + 1))
        if max(with_it) < min(without):
            return tuple(range(int(parent.low), max(with_it) + 1))
    return tuple(sorted(with_it))


def _parameter(name: str, distribution: BaseDistribution, when: tuple[When, ...]) -> Parameter:
    if isinstance(distribution, CategoricalDistribution):
        choices = tuple(range(len(distribution.choices)))
        return Parameter(
            name=name, kind="categorical", doc="", default=0, choices=choices, when=when
        )
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return Parameter(
        name=name,
        kind="int" if isinstance(distribution, IntDistribution) else "float",
        doc="",
        default=distribution.low,
        low=distribution.low,
        high=distribution.high,
        log=distribution.log,
        when=when,
    )


def _value(distribution: BaseDistribution, place: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[place]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None and not distribution.log:
        place = low + round((place - low) / step) * step
    value = min(max(place, low), high)
    return int(value) if isinstance(distribution, IntDistribution) else float(value)
