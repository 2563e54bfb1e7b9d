"""A study that ends at a plateau: by the trials that ended alone, once, whatever a driver does."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.plans.limits.budget import EPOCHS_METRIC, Budget
from search.plans.plan import Plan
from search.record.draws import sampler_of
from search.record.files.study_file import raised_budget
from search.record.ledger import Assignment, Ledger
from search.record.outcomes import Outcome
from search.record.storage import StudyRecord
from search.samplers.trial_sampler import TrialSampler
from tests.search.studies import plan_of, record_of
from trainables.errors import UserError

SHARE = 0.02


class Foretold(TrialSampler):
    """Says what is to be gained by the number of trials that it was told of."""

    gains: Mapping[int, float] = {}
    asked: list[tuple[int, int]]

    def __init__(self, plan: Plan) -> None:
        super().__init__(num_objectives=len(plan.objectives), sampler="random", seed=plan.seed)
        self.num_told = 0
        self.asked = []

    def tell(self, *arguments: Any, **named: Any) -> None:
        self.num_told += 1
        super().tell(*arguments, **named)

    def learn(self, *arguments: Any, **named: Any) -> None:
        self.num_told += 1
        super().learn(*arguments, **named)

    def further_gain(self, space: Any, num_trials: int) -> float | None:
        self.asked.append((self.num_told, num_trials))
        return self.gains.get(self.num_told, 1.0)


def budgeted(**arguments: Any) -> Plan:
    return plan_of(**{"trials": 40, "plateau": SHARE, "sampler": "random", **arguments})


def driver_of(plan: Plan, record: StudyRecord, **arguments: Any) -> tuple[Ledger, Foretold]:
    sampler = Foretold(plan)
    return Ledger(plan, record, sampler, **arguments), sampler


def end(ledger: Ledger, assignment: Assignment, used: float = 1.0) -> None:
    metrics = {name: 0.5 for name in ledger.plan.objectives} | {EPOCHS_METRIC: used}
    outcome = Outcome(status="complete", reason="", metrics=metrics, fraction=1.0)
    ledger.finish(assignment.number, outcome)


def run(ledger: Ledger, num: int = 1000, used: float = 1.0) -> int:
    """Run so many trials one after another; return how many there were."""
    for done in range(num):
        assignment = ledger.next()
        if assignment is None:
            return done
        end(ledger, assignment, used)
    return num


def test_it_ends_at_the_first_estimate_below_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Foretold, "gains", {4: 0.0, 15: SHARE, 16: SHARE - 1e-6, 17: 1.0})
    plan = budgeted()
    found: list[Mapping[str, Any]] = []
    ledger, sampler = driver_of(plan, record_of(plan), on_plateau=found.append)
    assert run(ledger) == 16
    assert ledger.num_remaining == 0
    assert found == [{"trials": 24, "gain": SHARE - 1e-6, "used": 16}]
    assert ledger.plateau == found[0]
    # Never before a quarter of 40, nor before 8 are complete; once for every trial that ended.
    first = max(10, 8, len(plan.starts()))
    assert sampler.asked == [(num, 40 - num) for num in range(first, 17)]


def test_without_until_nobody_asks() -> None:
    plan = replace(budgeted(), budget=Budget(trials=12))
    ledger, sampler = driver_of(plan, record_of(plan))
    assert run(ledger) == 12
    assert sampler.asked == []


def test_what_is_at_work_runs_to_its_end_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Foretold, "gains", {16: 0.01})
    plan = budgeted()
    ledger, _ = driver_of(plan, record_of(plan))
    assert run(ledger, 14) == 14
    running = [ledger.next() for _ in range(4)]
    assert None not in running
    for assignment in running[:2]:
        assert assignment is not None
        end(ledger, assignment)
    assert ledger.next() is None  # 16 have ended
    assert ledger.num_remaining == 2
    for assignment in running[2:]:
        assert assignment is not None
        end(ledger, assignment)
    assert (ledger.num_remaining, ledger.next()) == (0, None)  # although 18 say otherwise
    assert ledger.plateau is not None
    assert ledger.plateau["used"] == 18  # what was handed out


def test_epochs_are_those_of_the_trials_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Foretold, "gains", {20: 0.001})
    plan = plan_of(epochs=120.0, plateau=SHARE, sampler="random")
    ledger, sampler = driver_of(plan, record_of(plan))
    assert run(ledger, used=3.0) == 20
    assert sampler.asked[0] == (10, 30)  # 10 trials for 30 of 120
    assert ledger.plateau == {"trials": 20, "gain": 0.001, "used": 60.0}


@pytest.mark.parametrize("told", [True, False])
def test_the_next_driver_is_at_the_plateau_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: bool
) -> None:
    """told: whether the driver that was killed could still write it into study.json."""
    monkeypatch.setattr(Foretold, "gains", {16: 0.01})
    plan = budgeted()
    address = f"sqlite:///{tmp_path / 'optuna.db'}"
    first, _ = driver_of(plan, record_of(plan, address))
    run(first, 15)
    running = [first.next(), first.next()]
    assert running[0] is not None
    end(first, running[0])
    assert first.next() is None
    reached = first.plateau if told else None
    second, _ = driver_of(plan, record_of(plan, address), plateau=reached)
    assert second.num_remaining == 1
    assert run(second) == 1  # what was at work
    third, _ = driver_of(plan, record_of(plan, address), plateau=second.plateau)
    assert (third.num_remaining, third.next()) == (0, None)
    assert third.num_asked == 17


def test_a_study_at_its_plateau_can_be_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Foretold, "gains", {16: 0.01})
    plan = budgeted()
    ledger, _ = driver_of(plan, record_of(plan))
    run(ledger)
    assert "confirms the front at 2 fresh seeds" in ledger.confirm(2)
    assert ledger.next() is not None


def test_more_counts_from_what_was_used_and_until_alone_leaves_the_budget() -> None:
    plan = budgeted()
    known = {
        "budget": {"trials": 40, "plateau": SHARE},
        "plateau": {"used": 18, "gain": 0.01, "trials": 24},
    }
    ended = {**known, "plateau": None}
    cases: list[tuple[dict[str, Any], Budget | None, float | None, Budget]] = [
        (known, Budget(trials=5), None, Budget(trials=23)),
        (ended, Budget(trials=5), None, Budget(trials=45)),
        (known, Budget(trials=5, plateau=0.01), 0.01, Budget(trials=23, plateau=0.01)),
        (known, None, 0.005, Budget(trials=40, plateau=0.005)),
        (known, None, None, Budget(trials=40, plateau=SHARE)),
    ]
    for recorded, more, until, expected in cases:
        assert raised_budget(plan, recorded, more, until).budget == expected
    hours = {**known, "budget": {"gpu_hours": 4.0, "plateau": SHARE}, "plateau": {"used": 1.5}}
    assert raised_budget(plan, hours, Budget(gpu_hours=1.0), None).budget == Budget(gpu_hours=2.5)
    with pytest.raises(UserError, match="can be extended in its own unit"):
        raised_budget(plan, known, Budget(epochs=5.0))


def test_a_real_search_that_found_everything_ends_early() -> None:
    """Random draws whose quality is their density's root: after some trials, little is left."""
    plan = budgeted(trials=200)
    ledger = Ledger(plan, record_of(plan), sampler_of(plan))
    while (assignment := ledger.next()) is not None:
        quality = math.sqrt(1.0 - assignment.config.sparsity.target)
        metrics = {
            "val/segmentation/miou": quality,
            "val/normals/mean_error_deg": 60 - 20 * quality,
            "val/depth/absolute_error": 2 - quality,
            "cost/density": quality**2,
        }
        outcome = Outcome(status="complete", reason="", metrics=metrics, fraction=1.0)
        ledger.finish(assignment.number, outcome)
    assert ledger.plateau is not None
    assert 50 <= ledger.num_finished < 200
    assert ledger.plateau["gain"] < SHARE
