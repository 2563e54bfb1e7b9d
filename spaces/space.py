"""Defines declarative search spaces that are drawn define-by-run.

A `Space` is an ordered tuple of `Parameter`s. A parameter may depend on earlier ones (`when`).
Only active parameters are drawn, so a trial's record holds nothing that had no effect. Names are
those of `TrialConfig.flat()`. This module does not import Optuna: any object with Optuna's
`suggest_*` methods works.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, Self

from trainables.errors import UserError, unknown_name

Kind = Literal["float", "int", "categorical"]


class SuggestingTrial(Protocol):
    """Describes the part of `optuna.Trial` that drawing needs."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Draw a number in [low, high], uniformly, or uniformly in its logarithm with `log`."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Draw a whole number in [low, high], uniformly in its logarithm with `log`."""
        ...

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Draw one of `choices`."""
        ...


class GivenValues:
    """Implements `SuggestingTrial` by returning known values.

    Conditions then hold as they did when the values were drawn. Raises `KeyError` for a parameter
    without a value.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return the known value as a float."""
        return float(self._values[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return the known value as an int."""
        return int(self._values[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return the known value as it is."""
        return self._values[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class When:
    """Describes a condition: parameter `name` is active and its value is one of `values`."""

    name: str
    values: tuple[Any, ...]

    def holds(self, drawn: Mapping[str, Any]) -> bool:
        """Return whether the condition holds, given what was drawn before."""
        return self.name in drawn and drawn[self.name] in self.values


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """Describes one thing that may vary; it is active if every condition of `when` holds."""

    name: str
    kind: Kind
    doc: str
    default: Any
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    when: tuple[When, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "categorical":
            if not self.choices or len(set(self.choices)) != len(self.choices):
                raise UserError(
                    f"`choices` of {self.name!r} must be distinct and not empty, "
                    f"got {self.choices!r}; list each value once"
                )
        else:
            self._check_range()
        if not self.contains(self.default):
            raise UserError(
                f"the default of {self.name!r} must lie in {self.range_text()}, "
                f"got {self.default!r}; widen the range or change the default"
            )

    def _check_range(self) -> None:
        low, high = self.low, self.high
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
            raise UserError(
                f"{self.name!r} must have a finite range, got (low={low}, high={high}); give both"
            )
        if low > high:
            raise UserError(
                f"`low <= high` must hold for {self.name!r}, got (low={low}, high={high}); "
                "swap them"
            )
        if self.log and low <= 0:
            raise UserError(
                f"`low > 0` must hold for {self.name!r} on a log scale, got low={low}; raise it"
            )

    def contains(self, value: Any) -> bool:
        """Return whether `value` could be drawn for the parameter."""
        if self.kind == "categorical":
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        assert self.low is not None
        assert self.high is not None
        whole = self.kind == "float" or float(value).is_integer()
        return whole and self.low <= value <= self.high

    def range_text(self) -> str:
        """Return the range or the choices as text, for tables and messages."""
        if self.kind == "categorical":
            return "{" + ", ".join(map(str, self.choices)) + "}"
        return f"[{self.low:g}, {self.high:g}]" + (" log" if self.log else "")

    def condition_text(self) -> str:
        """Return the conditions as text; empty if there are none."""
        return " and ".join(f"{w.name} in {{{', '.join(map(str, w.values))}}}" for w in self.when)

    def suggest(self, trial: SuggestingTrial) -> Any:
        """Draw a value from a trial."""
        if self.kind == "categorical":
            return trial.suggest_categorical(self.name, list(self.choices))
        assert self.low is not None
        assert self.high is not None
        if self.kind == "int":
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """Holds parameters in drawing order; `fixed` ones are not drawn but still decide conditions."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        earlier: set[str] = set()
        for parameter in self.parameters:
            if parameter.name in earlier:
                raise UserError(f"the space {self.name!r} names {parameter.name!r} twice")
            for condition in parameter.when:
                if condition.name not in earlier:
                    raise UserError(
                        f"{parameter.name!r} depends on {condition.name!r}, which the space "
                        f"{self.name!r} does not draw before it; reorder the parameters"
                    )
            earlier.add(parameter.name)
        for name in self.fixed:
            if name not in earlier:
                raise unknown_name(f"parameter of the space {self.name!r}", name, earlier)

    def suggest(self, trial: SuggestingTrial) -> dict[str, Any]:
        """Draw the active parameters and return their values, fixed ones included."""
        return self._walk(lambda parameter: parameter.suggest(trial))

    def defaults(self) -> dict[str, Any]:
        """Return the active parameters at their defaults (or fixed values)."""
        return self._walk(lambda parameter: parameter.default)

    def known(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of `values` that this space would draw: active, free and within range.

        From any `TrialConfig.flat()` this gives a starting point for a sampler.
        """
        active = self._walk(lambda parameter: values.get(parameter.name, parameter.default))
        return {
            p.name: values[p.name]
            for p in self.parameters
            if p.name in active
            and p.name in values
            and p.name not in self.fixed
            and p.contains(values[p.name])
        }

    def pinned(self, overrides: Mapping[str, Any]) -> Self:
        """Return a space that no longer draws the parameters named in `overrides`.

        Names that the space does not hold are ignored: they are settings of the trial.
        """
        names = {parameter.name for parameter in self.parameters}
        mine = {name: value for name, value in overrides.items() if name in names}
        return replace(self, fixed={**self.fixed, **mine})

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter of that name; None if it is fixed or does not exist."""
        return next((p for p in self.parameters if p.name == name and name not in self.fixed), None)

    def narrowed(self, name: str, *, low: float) -> Self:
        """Return a space that draws the numeric parameter `name`, if at all, at `low` or above."""
        parameter = self.parameter(name)
        if parameter is None or parameter.low is None or parameter.low >= low:
            return self
        default = max(parameter.default, low)
        narrower = replace(parameter, low=low, default=default)
        return replace(
            self, parameters=tuple(narrower if p is parameter else p for p in self.parameters)
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for `python -m spaces show NAME --json`."""
        return {
            "name": self.name,
            "doc": self.doc,
            "parameters": [
                {
                    "name": p.name,
                    "kind": p.kind,
                    "low": p.low,
                    "high": p.high,
                    "log": p.log,
                    "choices": list(p.choices),
                    "default": p.default,
                    "when": {w.name: list(w.values) for w in p.when},
                    "doc": p.doc,
                }
                for p in self.parameters
            ],
        }

    def _walk(self, value_of: Any) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if not all(condition.holds(values) for condition in parameter.when):
                continue
            fixed = parameter.name in self.fixed
            values[parameter.name] = self.fixed[parameter.name] if fixed else value_of(parameter)
        return values
