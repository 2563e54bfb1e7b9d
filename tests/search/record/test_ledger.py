"""The ledger's laws: exactly the wanted trials, each told once, draws that survive a restart."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.plans.plan import Plan
from search.plans.recipe import SAMPLERS
from search.record.files.journal import Journal
from search.record.ledger import Assignment, Ledger
from search.record.outcomes import Outcome
from search.record.storage import open_storage
from search.samplers.trial_sampler import make_sampler
from tests.search import studies
from tests.search.studies import driver_of, ledger_of, record_of
from trainables.errors import UserError
from trainables.sweep.folder import trial_name


def plan_of(trials: int, **arguments: Any) -> Plan:
    return studies.plan_of(trials=trials, **arguments)


@pytest.fixture(params=["journal:///{}/optuna.journal", "sqlite:///{}/optuna.db"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a study's record, in both kinds of storage."""
    return str(request.param).format(tmp_path)


def complete(plan: Plan, assignment: Assignment) -> Outcome:
    """A made-up but deterministic quality: better when denser, by another amount per task."""
    density = 1.0 - assignment.config.sparsity.target
    metrics = {name: 1.0 + i - density for i, name in enumerate(plan.objectives)}
    metrics["val/segmentation/miou"] = density**0.5
    metrics["cost/density"] = density
    return Outcome(status="complete", reason="", metrics=metrics, fraction=1.0)


def run_all(ledger: Ledger) -> list[Assignment]:
    assignments = []
    while (assignment := ledger.next()) is not None:
        assignments.append(assignment)
        ledger.finish(assignment.number, complete(ledger.plan, assignment))
    return assignments


def test_hands_out_exactly_the_wanted_trials() -> None:
    ledger = ledger_of(plan_of(9))
    assignments = run_all(ledger)
    assert [a.number for a in assignments] == list(range(9))
    assert [a.name for a in assignments] == [trial_name("s", n) for n in range(9)]
    methods = [a.config.method for a in assignments[:6]]
    assert methods == ["dense", "random", "snip", "rigl", "disparse-static", "disparse-dynamic"]
    assert "dense" not in {a.config.method for a in assignments[6:]}
    assert ledger.next() is None
    assert ledger.num_remaining == 0
    trials = ledger.record.trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 9


def test_fewer_trials_than_starting_points() -> None:
    ledger = ledger_of(plan_of(2))
    assert [a.config.method for a in run_all(ledger)] == ["dense", "random"]
    assert len(ledger.record.trials()) == 2


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_same_draws(sampler: str) -> None:
    drawn = []
    for _ in range(2):
        plan = plan_of(12, seed=3, sampler=sampler)
        ledger = ledger_of(plan)
        drawn.append([a.config for a in run_all(ledger)])
    assert drawn[0] == drawn[1]
    free = drawn[0][6:]
    assert len(free) == 6
    assert all(free.count(config) == 1 for config in free)  # no draw is a copy of another


def test_another_seed_other_draws() -> None:
    drawn = []
    for seed in (0, 1):
        plan = plan_of(9, seed=seed)
        drawn.append([a.config for a in run_all(ledger_of(plan))])
    first, second = ([replace(c, seed=0) for c in configs] for configs in drawn)
    assert first[:8] == second[:8]  # the starting points
    assert first[8] != second[8]


def test_a_restart_changes_no_draw(address: str) -> None:
    whole = ledger_of(plan_of(9))
    expected = [a.config for a in run_all(whole)]
    got = []
    for _ in range(9):  # a new driver for every trial
        ledger = ledger_of(plan_of(9), address)
        assignment = ledger.next()
        assert assignment is not None
        got.append(assignment.config)
        ledger.finish(assignment.number, complete(ledger.plan, assignment))
    assert got == expected


@pytest.mark.parametrize("sampler", ["curves", "random"])
def test_trials_that_end_in_another_order_teach_what_a_restart_is_told(sampler: str) -> None:
    drawn = []
    for restarted in (False, True):
        plan = plan_of(12, sampler=sampler)
        ledger = ledger_of(plan)
        for _ in range(4):
            first, second = ledger.next(), ledger.next()
            for assignment in (second, first):
                assert assignment is not None
                ledger.finish(assignment.number, complete(plan, assignment))
        if restarted:
            ledger = driver_of(plan, ledger.record)
        drawn.append([a.config for a in run_all(ledger)])
    assert len(drawn[0]) == 4
    assert drawn[0] == drawn[1]


def test_unfinished_trials_come_back_first_as_they_were(address: str) -> None:
    first = ledger_of(plan_of(8), address)
    assignments = [first.next() for _ in range(4)]
    done = assignments[1]
    assert done is not None
    first.finish(done.number, complete(first.plan, done))
    # The driver dies here; trials 0, 2 and 3 are left RUNNING.
    second = ledger_of(plan_of(8), address)
    again = [second.next() for _ in range(3)]
    for before, after in zip([assignments[0], *assignments[2:]], again, strict=True):
        assert before is not None
        assert after is not None
        assert after.resumed
        assert not before.resumed
        assert (after.number, after.config) == (before.number, before.config)
    fresh = second.next()
    assert fresh is not None
    assert (fresh.number, fresh.resumed) == (4, False)
    for assignment in [*again, fresh]:
        assert assignment is not None
        second.finish(assignment.number, complete(second.plan, assignment))
    run_all(second)
    states = [t.state for t in second.record.trials()]
    assert states == [TrialState.COMPLETE] * 8


def test_a_trial_is_recorded_whole_or_not_at_all(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that dies in the transaction leaves no trial; one that dies after it, all of it."""
    plan = plan_of(9)
    expected = [a.config for a in run_all(ledger_of(plan))]
    ledger = ledger_of(plan, address)
    for _ in range(8):
        assignment = ledger.next()
        assert assignment is not None
        ledger.finish(assignment.number, complete(plan, assignment))

    class Killed(Exception):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(optuna.storages.RDBStorage, "_create_new_trial", die)
        patch.setattr(Journal, "append_logs", die)
        with pytest.raises(Killed):
            ledger.next()
    second = ledger_of(plan, address)
    assert second.num_asked == 8
    assert second.next() is not None  # recorded; then this driver dies too
    third = ledger_of(plan, address)
    resumed = third.next()
    assert resumed is not None
    assert (resumed.number, resumed.resumed, resumed.config) == (8, True, expected[8])


def test_a_driver_killed_between_outcome_and_state_need_not_run_the_end_again(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(3)
    first = ledger_of(plan, address)
    assignment = first.next()
    assert assignment is not None

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(first.record._storage), "set_trial_state_values", die)
        with pytest.raises(KeyboardInterrupt):
            first.finish(assignment.number, complete(plan, assignment))
    second = ledger_of(plan, address)
    assert [t.user_attrs["status"] for t in second.finished()] == ["complete"]
    again = second.next()
    assert again is not None
    assert (again.number, again.resumed) == (1, False)
    assert ledger_of(plan, address).num_finished == 1


def test_the_same_configuration_again_is_a_replicate_under_the_next_seed() -> None:
    overrides = {"method": "snip", "sparsity.target": "0.9", "optimiser.learning_rate": "0.003"}
    ledger = ledger_of(plan_of(3, seed=5, overrides=overrides))
    assert [a.config.seed for a in run_all(ledger)] == [5, 6, 7]


def test_outcomes_are_told_once_and_failures_are_not_values() -> None:
    seen: list[tuple[int, str]] = []
    ledger = ledger_of(plan_of(4))
    ledger.on_finished = lambda number, outcome: seen.append((number, outcome.status))
    statuses = ["complete", "failed", "stopped", "infeasible"]
    for status in statuses:
        assignment = ledger.next()
        assert assignment is not None
        good = complete(ledger.plan, assignment)
        outcome = Outcome(status=status, reason="why", metrics=good.metrics, fraction=0.5)
        ledger.finish(assignment.number, outcome)
        ledger.finish(assignment.number, outcome)  # a second telling changes nothing
    trials = ledger.record.trials()
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE"]
    assert [t.values is None for t in trials] == [False, True, True, False]
    assert [t.user_attrs["status"] for t in trials] == statuses
    assert [t.user_attrs["reason"] for t in trials] == ["why"] * 4
    assert seen == list(enumerate(statuses))
    assert ledger.front() == [0]


def test_a_draw_that_the_trial_refuses_fails_and_the_study_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = ledger_of(plan_of(8))
    real: Callable[..., Any] = Plan.config

    def refuse_snip(self: Plan, params: dict, seed: int) -> Any:
        if params.get("method") == "snip":
            raise UserError("no snip today")
        return real(self, params, seed)

    monkeypatch.setattr(Plan, "config", refuse_snip)
    plan_starts = ledger.plan.recipe.methods
    assert "snip" in plan_starts
    assert [a.number for a in run_all(ledger)][:3] == [0, 1, 3]
    trials = ledger.record.trials()
    assert len(trials) == 8
    assert trials[2].state == TrialState.FAIL
    assert trials[2].user_attrs["reason"] == "no snip today"


def test_a_driver_that_dies_before_it_says_what_was_refused_is_followed_by_one_that_does(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(4)
    real: Callable[..., Any] = Plan.config

    def refuse_snip(self: Plan, params: dict, seed: int) -> Any:
        if params.get("method") == "snip":
            raise UserError("no snip today")
        return real(self, params, seed)

    class DiesError(Exception):
        pass

    def die(*_: Any) -> None:
        raise DiesError

    first = ledger_of(plan, address)
    with monkeypatch.context() as patch:
        patch.setattr(Plan, "config", refuse_snip)
        patch.setattr(Ledger, "finish", die)
        assert [first.next() is not None for _ in range(2)] == [True, True]
        with pytest.raises(DiesError):
            first.next()
    second = ledger_of(plan, address)
    monkeypatch.setattr(Plan, "config", refuse_snip)
    assert [a.number for a in run_all(second)] == [0, 1, 3]
    trials = second.record.trials()
    statuses = [trial.user_attrs["status"] for trial in trials]
    assert statuses == ["complete", "complete", "failed", "complete"]
    assert trials[2].user_attrs["reason"] == "no snip today"


def test_a_trial_that_is_given_back_is_handed_out_again(address: str) -> None:
    ledger = ledger_of(plan_of(3), address)
    first, second = ledger.next(), ledger.next()
    assert first is not None
    assert second is not None
    ledger.give_back(first.number)
    assert ledger.num_remaining == 3
    again = ledger.next()
    assert again is not None
    assert (again.number, again.config) == (first.number, first.config)
    assert (first.resumed, again.resumed) == (False, True)
    for assignment in (again, second):
        ledger.finish(assignment.number, complete(ledger.plan, assignment))
    assert [a.number for a in run_all(ledger)] == [2]
    assert ledger.num_remaining == 0


def test_unknown_sampler_lists_the_valid_ones() -> None:
    with pytest.raises(UserError, match="Valid: curves, gp, random, tpe"):
        make_sampler("tpee", 0, 5)


def test_unreachable_study_storage_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="`--study-storage` must be a database"):
        record_of(plan_of(1), "sqlite:////nope/nope/o.db")


def test_trials_that_another_program_adds_take_no_place(address: str) -> None:
    """Between any two of ours: the same configurations are drawn, each once."""
    plan = plan_of(9, seed=1)
    alone = [a.config for a in run_all(ledger_of(plan))]
    mixed = []
    for at in (2, 5, 9):
        ledger = ledger_of(plan, address)
        theirs = optuna.load_study(study_name="s", storage=open_storage(address))
        theirs.enqueue_trial({"method": "snip"})
        while len(mixed) < at and (assignment := ledger.next()) is not None:
            mixed.append(assignment)
            ledger.finish(assignment.number, complete(plan, assignment))
            if len(mixed) % 2:
                theirs.ask()
    assert [a.config for a in mixed] == alone
    ledger = ledger_of(plan, address)
    assert (ledger.num_finished, ledger.num_remaining, ledger.next()) == (9, 0, None)
    numbers = [a.number for a in mixed]
    assert numbers == sorted(set(numbers)) != list(range(9))
    assert [t.number for t in ledger.trials()] == numbers
