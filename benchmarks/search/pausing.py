"""Searches that pause trials and go on with them later, which `simulate` does not do.

There is one worker, which trains one trial after another, each from where it paused, so that no
epoch is paid twice. Epochs are counted over all trials; with the last one in the budget everything
ends, and the trial that is under way counts for nothing. A search with one worker knows every
result before it proposes, which is more than those know that `simulate` drives with several.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from benchmarks.search.simulator import Completion, Trace
from benchmarks.search.workloads.workload import Report, Run, Workload
from trainables.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What the worker does next.

    number: of the trial, from 0 in the order they are begun; a known one goes on.
    params: its configuration, which is read when it begins.
    until: the epoch after which it pauses, or is complete.
    """

    number: int
    params: Mapping[str, Any]
    until: int


@runtime_checkable
class PausingSystem(Protocol):
    """A search, driven by `simulate_with_pauses`."""

    @property
    def thinking_seconds(self) -> float:
        """What it took of the processor so far, in this process or another."""

    def ask(self) -> Step:
        """The next step, of a new trial or a paused one."""

    def tell(self, number: int, report: Report) -> None:
        """The last report of the step that was asked for."""

    def close(self) -> None:
        """Nothing more is asked."""


def simulate_with_pauses(
    workload: Workload, system: PausingSystem, *, budget_epochs: int, seed: int
) -> Trace:
    """Drive the search until the budget is used up, and close it.

    Of the trace, `stopped_epochs` are the lengths of the trials that paused and never went on.
    Deterministic where the system is. Raises `UserError` for an empty budget.
    """
    try:
        if budget_epochs < 1:
            raise UserError(
                f"a simulation needs an epoch, got budget_epochs={budget_epochs}; give at least 1"
            )
        return _simulate(workload, system, budget_epochs, seed)
    finally:
        system.close()


def _simulate(workload: Workload, system: PausingSystem, budget_epochs: int, seed: int) -> Trace:
    completions: list[Completion] = []
    runs: dict[int, Run] = {}
    paused: dict[int, int] = {}  # epochs that a trial has trained, by its number
    seconds: list[float] = []  # of the processor, by trial
    used_epochs, thought = 0, system.thinking_seconds
    while used_epochs < budget_epochs:
        step = system.ask()
        begun = paused.pop(step.number, 0)
        if step.number == len(seconds):
            seconds.append(0.0)
            runs[step.number] = workload.start(step.params, seed)
        assert step.number in runs, f"trial {step.number} is neither paused nor the next new one"
        assert begun < step.until <= workload.num_epochs, f"at epoch {begun}, asked for {step}"
        # What the system was told since the step before counts for this one, as in `simulate`.
        seconds[step.number] += system.thinking_seconds - thought
        thought = system.thinking_seconds
        if used_epochs + step.until - begun > budget_epochs:
            break  # the budget ends while it is under way
        for _ in range(step.until - begun):
            report = runs[step.number].next_report()
        used_epochs += step.until - begun
        if step.until == workload.num_epochs:
            completions.append(
                Completion(
                    number=step.number,
                    epochs=used_epochs,
                    worth=report.worth,
                    feasible=report.feasible,
                )
            )
            del runs[step.number]
        else:
            paused[step.number] = step.until
        system.tell(step.number, report)
    return Trace(
        budget_epochs=budget_epochs,
        num_trials=len(seconds),
        completions=tuple(completions),
        stopped_epochs=tuple(paused[number] for number in sorted(paused)),
        thinking_seconds=tuple(seconds),
    )
