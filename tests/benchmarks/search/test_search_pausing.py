"""Trials that pause and go on: no epoch is paid twice, and none is lost."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from benchmarks.search.pausing import PausingSystem, Step, simulate_with_pauses
from benchmarks.search.simulator import System, Trace, simulate
from benchmarks.search.systems.peers import RandomSearch
from benchmarks.search.workloads.surrogates import get_surrogate
from benchmarks.search.workloads.workload import Report
from spaces.space import Space
from trainables.errors import UserError

EPOCHS = 9


@dataclass
class Counted:
    """A workload that counts the epochs it trains, by trial."""

    trained: dict[int, int] = field(default_factory=dict)
    name: str = "counted"
    space: Space = get_surrogate("parallel").space
    num_objectives: int = 2
    num_epochs: int = EPOCHS
    constrained: bool = False

    def start(self, params: Mapping[str, Any], seed: int) -> "Training":
        assert params["number"] not in self.trained, "a trial that goes on is not begun again"
        self.trained[params["number"]] = 0
        return Training(self, params["number"])


@dataclass
class Training:
    workload: Counted
    number: int

    def next_report(self) -> Report:
        self.workload.trained[self.number] += 1
        epoch = self.workload.trained[self.number]
        values = (float(self.number), float(epoch))
        return Report(epoch=epoch, fraction=epoch / EPOCHS, values=values, worth=values)


class Scripted:
    """Takes the given steps (number, until); writes down what it is told."""

    def __init__(self, steps: list[tuple[int, int]]) -> None:
        self.steps = steps
        self.told: list[tuple[int, int]] = []
        self.thinking_seconds = 0.0
        self.closed = False

    def ask(self) -> Step:
        self.thinking_seconds += 1.0
        number, until = self.steps.pop(0)
        return Step(number=number, params={"number": number}, until=until)

    def tell(self, number: int, report: Report) -> None:
        self.thinking_seconds += 0.25
        self.told.append((number, report.epoch))

    def close(self) -> None:
        self.closed = True


class Wanders(Scripted):
    """Begins trials and goes on with paused ones as a seed has it."""

    def __init__(self, seed: int) -> None:
        super().__init__([])
        self.random = random.Random(seed)
        self.at: dict[int, int] = {}
        self.num_begun = 0
        self.asked = (0, 0, 0)  # the trial, where it begins, where it pauses

    def ask(self) -> Step:
        begun = [number for number, epoch in self.at.items() if epoch < EPOCHS]
        number = self.random.choice([*begun, self.num_begun])
        self.num_begun = max(self.num_begun, number + 1)
        at = self.at.setdefault(number, 0)
        until = self.random.randint(at + 1, EPOCHS)
        self.asked = (number, at, until)
        return Step(number=number, params={"number": number}, until=until)

    def tell(self, number: int, report: Report) -> None:
        assert report.epoch == self.asked[2]
        self.at[number] = report.epoch


def trace_of(system: PausingSystem, budget: int, workload: Counted | None = None) -> Trace:
    return simulate_with_pauses(workload or Counted(), system, budget_epochs=budget, seed=0)


def test_a_paused_trial_goes_on_from_where_it_was() -> None:
    system = Scripted([(0, 3), (1, 1), (0, 9), (2, 4), (1, 2), (3, 9)])
    # 3 + 1 + 6 + 4 + 1 = 15; the last step would need 9 of the 8 that are left.
    trace = trace_of(system, 23)
    assert system.told == [(0, 3), (1, 1), (0, 9), (2, 4), (1, 2)]
    assert [(c.number, c.epochs, c.worth) for c in trace.completions] == [(0, 10, (0.0, 9.0))]
    assert trace.stopped_epochs == (2, 4)
    assert trace.num_trials == 4
    assert system.closed


def test_thinking_is_counted_for_the_trial_that_was_asked_for() -> None:
    trace = trace_of(Scripted([(0, 3), (1, 9), (0, 9)]), 18)
    # The third step's asking, and the telling before it, count for the first trial.
    assert trace.thinking_seconds == (1.0 + 1.25, 1.25)


@pytest.mark.parametrize("budget", [1, 8, 9, 100, 360])
@pytest.mark.parametrize("seed", range(5))
def test_every_epoch_of_the_budget_is_used_once(budget: int, seed: int) -> None:
    system, workload = Wanders(seed), Counted()
    trace = trace_of(system, budget, workload)
    number, at, until = system.asked  # the last step, which the budget may have ended
    cut = system.at[number] < until
    done = len(trace.completions) * EPOCHS + sum(trace.stopped_epochs) + (at if cut else 0)
    assert done == sum(workload.trained.values()) <= budget
    assert budget - done < (until - at if cut else 1)
    assert [c.epochs for c in trace.completions] == sorted(c.epochs for c in trace.completions)
    assert trace == trace_of(Wanders(seed), budget)


def test_without_pauses_it_does_what_one_worker_of_the_simulator_does() -> None:
    """The same search through both: equal traces, to the last bit."""

    class NeverPauses(Scripted):
        def __init__(self, search: System) -> None:
            super().__init__([])
            self.search, self.number = search, -1

        def ask(self) -> Step:
            self.number += 1
            params = self.search.ask(self.number)
            return Step(number=self.number, params=params, until=workload.num_epochs)

    workload = get_surrogate("crossing")
    budget = 5 * workload.num_epochs + 2
    apart = simulate_with_pauses(
        workload, NeverPauses(RandomSearch(workload, 7)), budget_epochs=budget, seed=7
    )
    search = RandomSearch(workload, 7)
    assert apart == simulate(workload, search, budget_epochs=budget, concurrency=1, seed=7)


def test_a_search_is_closed_whatever_happens() -> None:
    refused = Scripted([])
    with pytest.raises(UserError, match="budget_epochs=0"):
        trace_of(refused, 0)
    stuck = Scripted([(0, 3), (0, 3)])
    with pytest.raises(AssertionError, match="at epoch 3"):
        trace_of(stuck, 9)
    assert refused.closed
    assert stuck.closed
