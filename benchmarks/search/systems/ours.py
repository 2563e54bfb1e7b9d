"""Our search, driven through `search.samplers` and `search.schedulers.rungs`, part by part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.search.workloads.starts import starts_of
from benchmarks.search.workloads.workload import Report, Workload
from search.plans.rung_settings import RungSettings
from search.samplers.prior import Prior
from search.samplers.trial_sampler import TrialSampler
from search.schedulers.rungs import ParetoRungs

Starts = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What the parts are set to. The defaults are those of `python -m search`.

    sampler: of `search.plans.recipe.SAMPLERS`.
    rungs: None trains every trial at full length.
    constraints: whether sampler and scheduler hear of them.
    starts: whether the first trials are the points that every system begins with.
    """

    sampler: str = "curves"
    num_startup_trials: int = 10
    rungs: RungSettings | None = field(default_factory=RungSettings)
    constraints: bool = True
    starts: bool = True
    prior: Prior | None = None


class Ours:
    """One study of ours. starts: None for those that every system begins with."""

    def __init__(
        self, workload: Workload, seed: int, variant: Variant, starts: Starts | None = None
    ) -> None:
        self._space = workload.space
        self._variant = variant
        self._sampler = TrialSampler(
            num_objectives=workload.num_objectives,
            sampler=variant.sampler,
            seed=seed,
            num_startup_trials=variant.num_startup_trials,
            prior=variant.prior,
        )
        self._rungs = (
            None if variant.rungs is None else ParetoRungs(variant.rungs, workload.num_objectives)
        )
        if starts is None:
            starts = starts_of(self._space)
        self._starts = starts if variant.starts else ()

    def ask(self, number: int) -> Mapping[str, Any]:
        """Return the parameters of trial `number`."""
        fixed = self._starts[number] if number < len(self._starts) else None
        drawn, _ = self._sampler.ask(number, self._space, fixed)
        return drawn

    def keep(self, number: int, report: Report) -> bool:
        """Whether the trial continues after this report."""
        self._sampler.report(number, report.fraction, report.values, self._violations(report))
        if self._rungs is None:
            return True
        return self._rungs.decide(
            str(number),
            report.fraction,
            report.values,
            violation=report.violation if self._variant.constraints else 0.0,
            spared=lambda: self._sampler.worth_finishing(number, self._space, report.fraction),
        )

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        """Learn how a trial ended."""
        violations = self._violations(report)
        if complete:
            missed = any(value > 0 for value in violations.values())
            status = "infeasible" if missed else "complete"
            self._sampler.tell(number, status, report.values, violations)
        else:
            self._sampler.tell(number, "stopped", report.values, violations)

    def _violations(self, report: Report) -> Mapping[str, float]:
        return report.violations if self._variant.constraints else {}
