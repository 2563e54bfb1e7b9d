"""What the record asks of whatever draws trials."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from optuna.trial import BaseTrial

from spaces.space import Space

Vector = Sequence[float] | None  # one value for each objective, minimised; None where unknown
Violations = Mapping[str, float]  # of the constraints by name, positive where missed


class Sampler(Protocol):
    """Draws trials and learns how they ended; `search.samplers.trial_sampler` says more.

    Of a trial that was drawn it reads `params` and `distributions`, as every trial of Optuna has.
    """

    def ask(
        self, number: int, space: Space, fixed: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], BaseTrial]:
        """Draw trial `number`: return all active values, and what was drawn of them."""

    def report(
        self, number: int, fraction: float, values: Sequence[float], violations: Violations
    ) -> None:
        """Learn what a trial reported at a fraction of its training."""

    def tell(self, number: int, status: str, values: Vector, violations: Violations) -> None:
        """Learn how a trial that is at work ended."""

    def learn(
        self, number: int, drawn: BaseTrial, status: str, values: Vector, violations: Violations
    ) -> None:
        """Learn of a trial that ended before this driver began; below 0, in another study."""

    def resume(self, number: int, drawn: BaseTrial) -> None:
        """Take over a trial that an earlier driver left at work."""
