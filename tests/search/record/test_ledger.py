"""The ledger's laws: exactly the wanted trials, each told once, draws that survive a restart."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from search.plans.plan import Plan, make_plan
from search.plans.recipe import RECIPES
from search.record.ledger import Assignment, Ledger, load_trials, open_optuna, trial_name
from search.record.outcomes import Outcome, judge
from search.samplers.trial_sampler import SAMPLERS, make_sampler
from trainables.errors import UserError

OBJECTIVES = ("val/segmentation/miou", "cost/density")


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def plan_of(trials: int, **arguments: Any) -> Plan:
    return make_plan(RECIPES["demo"], study="s", trials=trials, **arguments)


def storage(folder: Path) -> str:
    return f"sqlite:///{folder / 'optuna.db'}"


def open_ledger(plan: Plan, folder: Path) -> Ledger:
    return Ledger(plan, open_optuna(plan, storage(folder)))


def in_memory(plan: Plan) -> Ledger:
    return Ledger(plan, open_optuna(plan, "sqlite://"))


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
    ledger = in_memory(plan_of(9))
    assignments = run_all(ledger)
    assert [a.number for a in assignments] == list(range(9))
    assert [a.name for a in assignments] == [trial_name("s", n) for n in range(9)]
    methods = [a.config.method for a in assignments[:6]]
    assert methods == ["dense", "random", "snip", "rigl", "disparse-static", "disparse-dynamic"]
    assert "dense" not in {a.config.method for a in assignments[6:]}
    assert ledger.next() is None
    assert ledger.num_remaining == 0
    trials = ledger.study.get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 9


def test_fewer_trials_than_starting_points() -> None:
    ledger = in_memory(plan_of(2))
    assert [a.config.method for a in run_all(ledger)] == ["dense", "random"]
    assert len(ledger.study.get_trials()) == 2


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_same_draws(sampler: str) -> None:
    drawn = []
    for _ in range(2):
        plan = plan_of(12, seed=3, sampler=sampler)
        ledger = Ledger(plan, open_optuna(plan, "sqlite://"))
        drawn.append([a.params for a in run_all(ledger)])
    assert drawn[0] == drawn[1]
    free = [tuple(sorted(p.items())) for p in drawn[0][6:]]
    assert len(free) == 6
    assert len(set(free)) == len(free)  # no draw is a copy of another


def test_another_seed_other_draws() -> None:
    drawn = []
    for seed in (0, 1):
        plan = plan_of(9, seed=seed)
        drawn.append([a.params for a in run_all(Ledger(plan, open_optuna(plan, "sqlite://")))])
    assert drawn[0][:8] == drawn[1][:8]  # the starting points
    assert drawn[0][8] != drawn[1][8]


def test_a_restart_changes_no_draw(tmp_path: Path) -> None:
    whole = in_memory(plan_of(9))
    expected = [a.params for a in run_all(whole)]
    got = []
    for _ in range(9):  # a new driver for every trial
        ledger = open_ledger(plan_of(9), tmp_path)
        assignment = ledger.next()
        assert assignment is not None
        got.append(assignment.params)
        ledger.finish(assignment.number, complete(ledger.plan, assignment))
    assert got == expected


def test_unfinished_trials_come_back_first_as_they_were(tmp_path: Path) -> None:
    first = open_ledger(plan_of(8), tmp_path)
    assignments = [first.next() for _ in range(4)]
    done = assignments[1]
    assert done is not None
    first.finish(done.number, complete(first.plan, done))
    # The driver dies here; trials 0, 2 and 3 are left RUNNING.
    second = open_ledger(plan_of(8), tmp_path)
    again = [second.next() for _ in range(3)]
    for before, after in zip([assignments[0], *assignments[2:]], again, strict=True):
        assert before is not None
        assert after is not None
        assert after.resumed
        assert not before.resumed
        assert (after.number, after.params, after.seed) == (
            before.number,
            before.params,
            before.seed,
        )
    fresh = second.next()
    assert fresh is not None
    assert (fresh.number, fresh.resumed) == (4, False)
    for assignment in [*again, fresh]:
        assert assignment is not None
        second.finish(assignment.number, complete(second.plan, assignment))
    run_all(second)
    states = [t.state for t in second.study.get_trials()]
    assert states == [TrialState.COMPLETE] * 8


def test_a_trial_is_recorded_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that dies in the transaction leaves no trial; one that dies after it, all of it."""
    plan = plan_of(9)
    expected = [a.params for a in run_all(in_memory(plan))]
    ledger = open_ledger(plan, tmp_path)
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
        with pytest.raises(Killed):
            ledger.next()
    second = open_ledger(plan, tmp_path)
    assert second.num_asked == 8
    assert second.next() is not None  # recorded; then this driver dies too
    third = open_ledger(plan, tmp_path)
    resumed = third.next()
    assert resumed is not None
    assert (resumed.number, resumed.resumed, resumed.params) == (8, True, expected[8])


def test_a_driver_killed_between_outcome_and_state_need_not_run_the_end_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(3)
    first = open_ledger(plan, tmp_path)
    assignment = first.next()
    assert assignment is not None

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.storages._CachedStorage, "set_trial_state_values", die)
        with pytest.raises(KeyboardInterrupt):
            first.finish(assignment.number, complete(plan, assignment))
    second = open_ledger(plan, tmp_path)
    assert [t.user_attrs["status"] for t in second.finished()] == ["complete"]
    again = second.next()
    assert again is not None
    assert (again.number, again.resumed) == (1, False)
    assert open_ledger(plan, tmp_path).num_finished == 1


def test_the_same_configuration_again_is_a_replicate_under_the_next_seed() -> None:
    overrides = {"method": "snip", "sparsity.target": "0.9", "optimiser.learning_rate": "0.003"}
    ledger = in_memory(plan_of(3, seed=5, overrides=overrides))
    assert [a.seed for a in run_all(ledger)] == [5, 6, 7]


def test_outcomes_are_told_once_and_failures_are_not_values() -> None:
    seen: list[tuple[int, str]] = []
    ledger = in_memory(plan_of(4))
    ledger.on_finished = lambda number, outcome: seen.append((number, outcome.status))
    statuses = ["complete", "failed", "stopped", "infeasible"]
    for status in statuses:
        assignment = ledger.next()
        assert assignment is not None
        good = complete(ledger.plan, assignment)
        outcome = Outcome(status=status, reason="why", metrics=good.metrics, fraction=0.5)
        ledger.finish(assignment.number, outcome)
        ledger.finish(assignment.number, outcome)  # a second telling changes nothing
    trials = load_trials(ledger.study)
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE"]
    assert [t.values is None for t in trials] == [False, True, True, False]
    assert [t.user_attrs["status"] for t in trials] == statuses
    assert [t.user_attrs["reason"] for t in trials] == ["why"] * 4
    assert seen == list(enumerate(statuses))
    assert ledger.front() == [0]


def test_a_draw_that_the_trial_refuses_fails_and_the_study_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = in_memory(plan_of(8))
    real: Callable[..., Any] = Plan.config

    def refuse_snip(self: Plan, params: dict, seed: int) -> Any:
        if params.get("method") == "snip":
            raise UserError("no snip today")
        return real(self, params, seed)

    monkeypatch.setattr(Plan, "config", refuse_snip)
    plan_starts = ledger.plan.recipe.methods
    assert "snip" in plan_starts
    assert [a.number for a in run_all(ledger)][:3] == [0, 1, 3]
    trials = load_trials(ledger.study)
    assert len(trials) == 8
    assert trials[2].state == TrialState.FAIL
    assert trials[2].user_attrs["reason"] == "no snip today"


def test_a_driver_that_dies_before_it_says_what_was_refused_is_followed_by_one_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    first = open_ledger(plan, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Plan, "config", refuse_snip)
        patch.setattr(Ledger, "finish", die)
        assert [first.next() is not None for _ in range(2)] == [True, True]
        with pytest.raises(DiesError):
            first.next()
    second = open_ledger(plan, tmp_path)
    monkeypatch.setattr(Plan, "config", refuse_snip)
    assert [a.number for a in run_all(second)] == [0, 1, 3]
    trials = load_trials(second.study)
    statuses = [trial.user_attrs["status"] for trial in trials]
    assert statuses == ["complete", "complete", "failed", "complete"]
    assert trials[2].user_attrs["reason"] == "no snip today"


def test_a_trial_that_is_given_back_is_handed_out_again(tmp_path: Path) -> None:
    ledger = open_ledger(plan_of(3), tmp_path)
    first, second = ledger.next(), ledger.next()
    assert first is not None
    assert second is not None
    ledger.give_back(first.number)
    assert ledger.num_remaining == 3
    again = ledger.next()
    assert again is not None
    assert (again.number, again.config, again.seed) == (first.number, first.config, first.seed)
    assert (first.resumed, again.resumed) == (False, True)
    for assignment in (again, second):
        ledger.finish(assignment.number, complete(ledger.plan, assignment))
    assert [a.number for a in run_all(ledger)] == [2]
    assert ledger.num_remaining == 0


def result(**changes: Any) -> dict[str, Any]:
    values = {
        "val/segmentation/miou": 0.5,
        "cost/density": 0.1,
        "training/step": 10,
        "training/fraction": 1.0,
        "status": "complete",
        "done": True,
        "config/name": "x",
        "pid": 3,
    }
    return {k: v for k, v in {**values, **changes}.items() if v is not ...}


@pytest.mark.parametrize(
    ("given_result", "error", "status", "reason"),
    [
        (result(), None, "complete", ""),
        (result(**{"cost/density": math.nan}), None, "failed", "cost/density=nan"),
        (result(**{"cost/density": math.inf}), None, "failed", "cost/density=inf"),
        (result(**{"cost/density": ...}), None, "failed", "cost/density=missing"),
        (result(**{"cost/density": "0.1"}), None, "failed", "cost/density"),
        (result(status="failed", reason="loss is nan"), None, "failed", "loss is nan"),
        (result(status="failed"), None, "failed", "no reason"),
        # Tune sets `done` when a scheduler stops a trial.
        (result(status="running", **{"training/fraction": 0.4}), None, "stopped", "40%"),
        (result(status="complete", **{"training/fraction": 0.4}), None, "failed", "40%"),
        (result(), "killed", "failed", "killed"),
        (None, "killed", "failed", "killed"),
    ],
)
def test_judge(given_result: Any, error: str | None, status: str, reason: str) -> None:
    outcome = judge(given_result, OBJECTIVES, error=error)
    assert outcome is not None
    assert outcome.status == status
    assert reason in outcome.reason
    assert not {"pid", "config/name"} & set(outcome.metrics)


def test_no_result_and_no_error_is_not_an_outcome() -> None:
    assert judge(None, OBJECTIVES) is None


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*OBJECTIVES, "status", "done", "training/fraction", "reason"]),
        st.one_of(st.floats(allow_subnormal=False), st.booleans(), st.none(), st.text(max_size=5)),
    )
)
def test_judge_never_raises_and_completes_only_finite_vectors(values: dict) -> None:
    outcome = judge(values, OBJECTIVES)
    assert outcome is not None
    if outcome.status == "complete":
        assert all(math.isfinite(outcome.metrics[name]) for name in OBJECTIVES)
        assert outcome.fraction >= 1.0 - 1e-9


def test_unknown_sampler_lists_the_valid_ones() -> None:
    with pytest.raises(UserError, match="valid: curves, gp, nsga2, nsga3, random, tpe"):
        make_sampler("tpee", 0, 5)


def test_unreachable_study_storage_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="`--study-storage` must be a database"):
        open_optuna(plan_of(1), "sqlite:////nope/nope/o.db")
