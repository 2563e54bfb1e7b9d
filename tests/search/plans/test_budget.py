"""When a study is finished, and what the ledger makes of it; see `search.plans.limits.budget`."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.plans.limits.budget import EPOCHS_METRIC, GPU_HOURS_METRIC, Budget
from search.plans.plan import Plan
from search.record.ledger import Assignment, Ledger
from search.record.outcomes import Outcome
from tests.search.studies import ledger_of, plan_of
from trainables.errors import UserError


def test_units() -> None:
    trials, epochs, hours = Budget(trials=18), Budget(epochs=200.0), Budget(gpu_hours=1.5)
    assert (trials.metric, epochs.metric, hours.metric) == (None, EPOCHS_METRIC, GPU_HOURS_METRIC)
    assert (trials.amount, epochs.amount, hours.amount) == (18.0, 200.0, 1.5)
    assert [b.text for b in (trials, epochs, hours)] == ["18 trials", "200 epochs", "1.5 GPU hours"]


@pytest.mark.parametrize(
    ("given_budget", "message"),
    [
        ({}, "must have one budget, got none; give one of --trials, --epochs, --gpu-hours"),
        ({"trials": 3, "epochs": 2.0}, "must have one budget, got --trials and --epochs"),
        ({"trials": 0}, "`--trials` must be at least 1, got 0; raise it"),
        ({"trials": -3}, "`--trials` must be at least 1, got -3"),
        ({"epochs": 0.0}, "`--epochs` must be above 0 and finite, got 0"),
        ({"epochs": math.nan}, "`--epochs` must be above 0 and finite, got nan"),
        ({"epochs": math.inf}, "above 0 and finite, got inf; `search extend` adds more"),
        ({"gpu_hours": -1.0}, "`--gpu-hours` must be above 0 and finite, got -1"),
    ],
)
def test_mistakes(given_budget: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Budget(**given_budget)


budgets = st.one_of(
    st.builds(Budget, trials=st.integers(1, 10**6)),
    st.builds(Budget, epochs=st.floats(1e-6, 1e9)),
    st.builds(Budget, gpu_hours=st.floats(1e-6, 1e9)),
)


@settings(max_examples=100, deadline=None)
@given(budgets, budgets)
def test_raised_is_the_sum_in_one_unit_and_refused_in_two(first: Budget, second: Budget) -> None:
    assert Budget(**json.loads(json.dumps(first.to_json()))) == first
    if first.metric == second.metric:
        assert first.raised(second).amount == first.amount + second.amount
        assert first.raised(second).metric == first.metric
    else:
        with pytest.raises(UserError, match="can be extended in its own unit"):
            first.raised(second)


def open_ledger(plan: Plan, folder: Path) -> Ledger:
    return ledger_of(plan, f"sqlite:///{folder / 'optuna.db'}")


def end(ledger: Ledger, assignment: Assignment, used: float, status: str = "complete") -> None:
    metrics = {name: 0.5 for name in ledger.plan.objectives}
    metric = ledger.plan.budget.metric
    assert metric is not None
    outcome = Outcome(status=status, reason="", metrics={**metrics, metric: used}, fraction=1.0)
    ledger.finish(assignment.number, outcome)


def next_of(ledger: Ledger) -> Assignment:
    assignment = ledger.next()
    assert assignment is not None
    return assignment


@pytest.mark.parametrize("unit", ["epochs", "gpu_hours"])
def test_trials_are_handed_out_while_some_is_left(tmp_path: Path, unit: str) -> None:
    ledger = open_ledger(plan_of(**{unit: 10.0}), tmp_path)
    for number, status in enumerate(["complete", "stopped", "failed", "infeasible"]):
        assert ledger.used == 3.0 * number
        assert ledger.num_remaining == 1
        assignment = next_of(ledger)
        assert ledger.num_remaining == 2
        end(ledger, assignment, 3.0, status)  # whatever becomes of it, it was used
    assert ledger.used == 12.0  # the last was begun with 1 left, and run to its end
    assert ledger.next() is None
    assert ledger.num_remaining == 0


def test_what_runs_counts_as_it_reports(tmp_path: Path) -> None:
    ledger = open_ledger(plan_of(epochs=10.0), tmp_path)
    first, second = next_of(ledger), next_of(ledger)
    ledger.reported(first.number, {EPOCHS_METRIC: 4.0})
    ledger.reported(second.number, {EPOCHS_METRIC: 5.0})
    ledger.reported(second.number, {EPOCHS_METRIC: 2.0})  # from its checkpoint again
    ledger.reported(second.number, {EPOCHS_METRIC: math.nan})
    ledger.reported(second.number, {})
    assert ledger.used == 9.0
    third = next_of(ledger)
    ledger.reported(third.number, {EPOCHS_METRIC: 1.0})
    assert ledger.next() is None
    assert ledger.num_remaining == 3
    for assignment, used in ((first, 6.0), (second, 6.0), (third, 6.0)):
        end(ledger, assignment, used)
    assert (ledger.used, ledger.num_remaining) == (18.0, 0)


def test_a_restart_counts_what_was_used(tmp_path: Path) -> None:
    plan = plan_of(epochs=10.0)
    ledger = open_ledger(plan, tmp_path)
    end(ledger, next_of(ledger), 6.0)
    running = next_of(ledger)
    # The driver dies here.
    again = open_ledger(plan, tmp_path)
    assert (again.used, again.num_asked, again.num_finished) == (6.0, 2, 1)
    resumed = next_of(again)
    assert (resumed.number, resumed.resumed) == (running.number, True)
    end(again, resumed, 4.0)
    assert again.next() is None
    # Raised, it goes on where it was.
    more = open_ledger(plan_of(epochs=11.0), tmp_path)
    assert (more.used, more.num_remaining) == (10.0, 1)
    assert next_of(more).number == 2


def test_trials_are_counted_whatever_becomes_of_them(tmp_path: Path) -> None:
    ledger = open_ledger(plan_of(trials=3), tmp_path)
    for status in ("failed", "stopped", "complete"):
        outcome = Outcome(
            status=status,
            reason="",
            metrics={n: 0.5 for n in ledger.plan.objectives},
            fraction=1.0,
        )
        ledger.finish(next_of(ledger).number, outcome)
    assert (ledger.used, ledger.num_remaining, ledger.next()) == (3, 0, None)
    assert ledger.idle == ""


def test_trials_that_use_nothing_do_not_go_on_for_ever(tmp_path: Path) -> None:
    ledger = open_ledger(plan_of(epochs=10.0), tmp_path)
    end(ledger, next_of(ledger), 1.0)
    for _ in range(20):
        assert ledger.idle == ""
        end(ledger, next_of(ledger), 0.0, "failed")
    assert ledger.next() is None
    assert ledger.num_remaining == 0
    assert ledger.idle.startswith(
        "the study ended because its last 20 trials used nothing of 10 ep"
    )
    again = open_ledger(plan_of(epochs=10.0), tmp_path)  # whoever mended the cause goes on
    assert (again.idle, again.num_remaining) == ("", 1)
