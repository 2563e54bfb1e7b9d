"""Early stopping by several objectives in plain Optuna: the decisions of `ParetoRungs`."""

import math
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from search.plans.rung_settings import RungSettings
from search.samplers.optuna_reports import reports_of
from search.schedulers.optuna_pruner import ParetoPruner
from search.schedulers.rungs import ParetoRungs
from trainables.errors import UserError

optuna.logging.set_verbosity(optuna.logging.ERROR)
STEPS = 27


def study_of(*directions: str, **more: Any) -> optuna.Study:
    return optuna.create_study(directions=list(directions), **more)


def pruner_of(**settings: Any) -> ParetoPruner:
    return ParetoPruner(**{"max_steps": STEPS, "grace_steps": 3, **settings})


events = st.lists(
    st.tuples(
        st.integers(0, 9),  # the trial
        st.integers(1, 12),  # steps more
        st.tuples(*[st.one_of(st.integers(0, 4), st.just(math.nan))] * 2),
        st.sampled_from([0.0, 0.0, 0.5, 1.0]),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(events, st.sampled_from(["minimize", "maximize"]), st.sampled_from([2.0, 3.0]))
def test_decisions_are_those_of_the_rungs(
    reported: list[tuple[int, int, tuple[float, float], float]], direction: str, factor: float
) -> None:
    study = study_of("minimize", direction)
    sign = -1.0 if direction == "maximize" else 1.0
    pruner = pruner_of(reduction_factor=factor)
    rules = RungSettings(grace=3, maximum=STEPS, reduction_factor=factor)
    rungs = ParetoRungs(rules, 2)
    trials = [study.ask() for _ in range(10)]
    steps, stopped = [0] * 10, set()
    for number, more, values, violation in reported:
        steps[number] = min(STEPS, steps[number] + more)
        expected = rungs.decide(str(number), steps[number], values, violation=violation)
        given_values = (values[0], sign * values[1])
        pruner.report(trials[number], given_values, step=steps[number], violation=violation)
        if not expected:
            stopped.add(number)  # and stays so, should it go on to its full length
        assert pruner.should_prune(trials[number]) == (number in stopped)


def test_a_full_length_changes_nothing_and_the_first_trial_is_never_stopped() -> None:
    study, pruner = study_of("minimize", "minimize"), pruner_of()
    trial = study.ask()
    for step in range(1, STEPS + 1):
        pruner.check(trial, (1.0, math.inf), step=step)
    fractions = [report.fraction * STEPS for report in reports_of(trial.user_attrs)]
    assert fractions == pytest.approx([3, 9, 27])  # what is compared or learned, and no more


def run_front(directions: tuple[str, str]) -> optuna.Study:
    """Trial n has quality n / 20 and costs the more the better; every fourth is poor in both."""
    study, pruner = study_of(*directions), pruner_of(grace_steps=9)
    signs = [1.0 if d == "minimize" else -1.0 for d in directions]

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        poor = trial.number % 4 == 3
        cost = 2.0 if poor else trial.number / 20
        quality = 2.0 if poor else 1 - trial.number / 20
        for step in range(1, STEPS + 1):
            now = (signs[0] * (quality + 1 / step), signs[1] * cost)
            pruner.check(trial, now, step=step)
        return now

    study.optimize(objective, n_trials=20)
    return study


@pytest.mark.parametrize("directions", [("minimize", "minimize"), ("maximize", "minimize")])
def test_what_is_stopped_is_pruned_and_on_no_front(directions: tuple[str, str]) -> None:
    study = run_front(directions)
    stopped = [t.number for t in study.trials if t.state == TrialState.PRUNED]
    assert stopped == [3, 7, 11, 15, 19]
    assert all(study.trials[n].values is None for n in stopped)
    assert {t.number for t in study.best_trials} == set(range(20)) - set(stopped)


def test_directions_mirror_one_another() -> None:
    states = {
        d: [t.state for t in run_front(d).trials] for d in (("minimize",) * 2, ("maximize",) * 2)
    }
    first, second = states.values()
    assert first == second


def test_another_process_decides_by_the_same_records(tmp_path: Any) -> None:
    address = f"sqlite:///{tmp_path / 'optuna.db'}"
    study = study_of("minimize", "minimize", storage=address, study_name="s")
    for value in (0.1, 0.2):
        pruner_of().report(study.ask(), (value, value), step=3)
    again = optuna.load_study(study_name="s", storage=address)
    poor, good = again.ask(), again.ask()
    with pytest.raises(optuna.TrialPruned, match="others were better in every objective at step 3"):
        pruner_of().check(poor, (0.9, 0.9), step=3)
    pruner_of().check(good, (0.05, 0.05), step=3)
    assert pruner_of().should_prune(again.ask()) is False
    # Told by ask and tell.
    again.tell(poor, state=TrialState.PRUNED)
    assert again.trials[poor.number].state == TrialState.PRUNED


def test_one_objective_and_threads() -> None:
    study, pruner = study_of("maximize"), pruner_of(grace_steps=9)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(1, STEPS + 1):
            pruner.check(trial, (x - 1 / step,), step=step)
        return x

    study.optimize(objective, n_trials=40, n_jobs=4)
    states = [t.state for t in study.trials]
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert states.count(TrialState.PRUNED) >= 10
    xs = {s: np.mean([t.params["x"] for t in study.trials if t.state == s]) for s in set(states)}
    assert xs[TrialState.COMPLETE] > xs[TrialState.PRUNED]


def test_mistakes() -> None:
    study, pruner = study_of("minimize", "minimize"), pruner_of()
    trial = study.ask()
    with pytest.raises(UserError, match=r"each of the study's 2 objectives, got 1; give them in"):
        pruner.report(trial, (1.0,), step=1)
    with pytest.raises(UserError, match=r"`step` must be above 0, got 0; the first one is 1"):
        pruner.report(trial, (1.0, 2.0), step=0)
    with pytest.raises(UserError, match=r"`0 < grace <= maximum` must hold"):
        ParetoPruner(max_steps=9, grace_steps=10)
