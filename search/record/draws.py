"""What the record keeps of a draw, and what it asks of whatever draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from spaces.space import GivenValues, Space

Vector = Sequence[float] | None  # one value for each objective, minimised; None where unknown
Violations = Mapping[str, float]  # of the constraints by name, positive where missed


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """A drawn trial: values by parameter, and what they were drawn from."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]


class Sampler(Protocol):
    """Draws trials and learns how they ended; `search.samplers.trial_sampler` says more."""

    def ask(
        self, number: int, space: Space, fixed: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], Draw]:
        """Draw trial `number`: return all active values, and what was drawn of them."""

    def report(
        self, number: int, fraction: float, values: Sequence[float], violations: Violations
    ) -> None:
        """Learn what a trial reported at a fraction of its training."""

    def tell(self, number: int, status: str, values: Vector, violations: Violations) -> None:
        """Learn how a trial that is at work ended."""

    def learn(
        self,
        draw: Draw,
        status: str,
        values: Vector,
        violations: Violations,
        *,
        number: int | None = None,
    ) -> None:
        """Learn of a trial that ended before this driver began, or in another study."""

    def recall(self, number: int, draw: Draw) -> None:
        """Learn that an earlier driver drew a trial; its reports follow."""

    def resume(self, number: int, draw: Draw) -> None:
        """Take over a trial that an earlier driver left at work."""


class Recorder(GivenValues):
    """Gives known values in place of a trial of Optuna, and notes what they could be drawn from.

    Raises `KeyError` for a parameter without a value.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Give the known number."""
        self.distributions[name] = FloatDistribution(low, high, log=log)
        return self.params.setdefault(name, super().suggest_float(name, low, high, log=log))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Give the known whole number."""
        self.distributions[name] = IntDistribution(low, high, log=log)
        return self.params.setdefault(name, super().suggest_int(name, low, high, log=log))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Give the known choice."""
        self.distributions[name] = CategoricalDistribution(choices)
        return self.params.setdefault(name, super().suggest_categorical(name, choices))
