"""What a search is given to work on: something that trains, epoch by epoch. No search here.

Everything is minimised. A vector holds the tasks' errors and then the cost. Of our own workloads
that is known with the configuration: at every epoch it is the cost the trial will end with. Of
tasks that others wrote nothing is known before it is reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from spaces.space import Space


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a trial says after an epoch.

    values: the objectives as measured, minimised; what a search sees.
    worth: the same without the noise of measuring; what a search is scored by.
    violations: of the constraints by `values`, by name, relative to the bound as in
      `search.plans.limits.constraints`: positive where one is missed.
    feasible: whether `worth` keeps them.
    """

    epoch: int
    fraction: float
    values: tuple[float, ...]
    worth: tuple[float, ...]
    violations: Mapping[str, float] = field(default_factory=dict)
    feasible: bool = True

    @property
    def violation(self) -> float:
        """The sum of what is missed; 0 where all hold."""
        return sum(max(0.0, value) for value in self.violations.values())


class Run(Protocol):
    """One trial in training."""

    def next_report(self) -> Report:
        """Train one epoch. Not to be called after the report of fraction 1."""


class Workload(Protocol):
    """Objectives, a space, and trials in it."""

    @property
    def name(self) -> str:
        """The name in tables and files."""

    @property
    def space(self) -> Space:
        """The space that parameters are drawn from."""

    @property
    def num_objectives(self) -> int:
        """How many objectives there are."""

    @property
    def num_epochs(self) -> int:
        """Of a full-length trial."""

    @property
    def constrained(self) -> bool:
        """Whether trials have to meet a constraint."""

    def start(self, params: Mapping[str, Any], seed: int) -> Run:
        """The same configuration and seed train the same way."""
