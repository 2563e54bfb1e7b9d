"""Searches in virtual time: workers, epochs and one budget, the same for every system.

`concurrency` workers train one trial each, an epoch takes about one unit of time, and a report
follows every epoch. A system is asked for a trial when a worker is free and may stop a trial at
any report but the last. Epochs are counted over all trials; with the last one in the budget
everything ends, and trials that are under way count for nothing.
"""

import heapq
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks.search.workloads.workload import Report, Run, Workload
from trainables.errors import UserError
from trainables.seeds import derive_seed

# Epochs of different trials last differently, so that no system sees trials in lockstep.
_SLOWEST = 1.2


class System(Protocol):
    """A search, driven by the simulator. Trials are numbered from 0 in the order they are asked."""

    def ask(self, number: int) -> Mapping[str, Any]:
        """The configuration of the next trial."""

    def keep(self, number: int, report: Report) -> bool:
        """Whether the trial goes on after this report, which is not its last."""

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        """The trial's last report: at full length, or where `keep` said no."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """A trial at full length. epochs: used by all trials when it ended."""

    number: int
    epochs: int
    worth: tuple[float, ...]
    feasible: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What a search did with its budget, in epochs.

    stopped_epochs: the length at which each stopped trial ended.
    thinking_seconds: what the system took of the processor, by trial: for the asking, and for all
      that it was told since the trial before. Two runs may differ in nothing else.
    """

    budget_epochs: int
    num_trials: int
    completions: tuple[Completion, ...]
    stopped_epochs: tuple[int, ...]
    thinking_seconds: tuple[float, ...] = field(default=(), compare=False)


def simulate(
    workload: Workload, system: System, *, budget_epochs: int, concurrency: int, seed: int
) -> Trace:
    """Deterministic where the system is. Raises `UserError` for an empty budget or no worker."""
    if budget_epochs < 1 or concurrency < 1:
        raise UserError(
            "a simulation needs an epoch and a worker, got "
            f"(budget_epochs={budget_epochs}, concurrency={concurrency}); give at least 1 of each"
        )
    timed = _Timed(system)
    completions: list[Completion] = []
    stopped: list[int] = []
    runs: dict[int, Run] = {}
    events: list[tuple[float, int]] = []  # when a trial's next report comes, and its number
    num_trials = 0

    def start(now: float) -> None:
        nonlocal num_trials
        number, num_trials = num_trials, num_trials + 1
        runs[number] = workload.start(timed.ask(number), seed)
        heapq.heappush(events, (now + _epoch_time(seed, number), number))

    for _ in range(concurrency):
        start(0.0)
    for used_epochs in range(1, budget_epochs + 1):
        now, number = heapq.heappop(events)
        report = runs[number].next_report()
        complete = report.epoch == workload.num_epochs
        if not complete and timed.keep(number, report):
            heapq.heappush(events, (now + _epoch_time(seed, number), number))
            continue
        if complete:
            completions.append(
                Completion(
                    number=number,
                    epochs=used_epochs,
                    worth=report.worth,
                    feasible=report.feasible,
                )
            )
        else:
            stopped.append(report.epoch)
        timed.end(number, report, complete=complete)
        del runs[number]
        if used_epochs < budget_epochs:
            start(now)
    return Trace(
        budget_epochs=budget_epochs,
        num_trials=num_trials,
        completions=tuple(completions),
        stopped_epochs=tuple(stopped),
        thinking_seconds=tuple(timed.seconds),
    )


class _Timed:
    """A `System` with a clock. seconds: of the processor, by trial."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._told = 0.0  # seconds since the last trial was asked for
        self.seconds: list[float] = []

    def ask(self, number: int) -> Mapping[str, Any]:
        begun = time.process_time()
        asked = self._system.ask(number)
        self.seconds.append(self._told + time.process_time() - begun)
        self._told = 0.0
        return asked

    def keep(self, number: int, report: Report) -> bool:
        begun = time.process_time()
        kept = self._system.keep(number, report)
        self._told += time.process_time() - begun
        return kept

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        begun = time.process_time()
        self._system.end(number, report, complete=complete)
        self._told += time.process_time() - begun


def _epoch_time(seed: int, number: int) -> float:
    """Of trial `number`, whatever it trains, so that it is the same for every system."""
    generator = np.random.default_rng(derive_seed(seed, "data", number))
    return float(generator.uniform(1.0, _SLOWEST))
