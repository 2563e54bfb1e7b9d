"""Our sampler in plain Optuna: legal draws in any space, and better than chance."""

import math
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from analysis.statistics.pareto import non_dominated
from search.samplers.optuna_sampler import LearningCurveSampler
from search.samplers.optuna_space import InferredSpace
from search.schedulers.optuna_pruner import ParetoPruner
from trainables.errors import UserError

optuna.logging.set_verbosity(optuna.logging.ERROR)
pytestmark = pytest.mark.timeout(240)


def study_of(*directions: str, seed: int = 0, startup: int = 4, **more: Any) -> optuna.Study:
    sampler = LearningCurveSampler(seed=seed, num_startup_trials=startup)
    return optuna.create_study(directions=list(directions), sampler=sampler, **more)


def draw(trial: optuna.Trial) -> dict[str, Any]:
    """Define by run, with every kind of range: conditions on a choice, on a number, and nested."""
    kind = trial.suggest_categorical("kind", ["a", None, 2.5, True])
    found: dict[str, Any] = {"kind": kind, "rate": trial.suggest_float("rate", 1e-5, 1, log=True)}
    found["grid"] = trial.suggest_float("grid", 0.1, 0.7, step=0.2)
    if kind in ("a", True):
        found["size"] = trial.suggest_int("size", 1, 1024, log=True)
        found["inner"] = trial.suggest_categorical("inner", [False, True])
        if found["inner"]:
            found["deep"] = trial.suggest_int("deep", -4, 8, step=4)
    layers = trial.suggest_int("layers", 1, 4)
    if layers >= 3:
        found["third"] = trial.suggest_float("third", -1.0, 1.0)
    if found["rate"] > 0.1:  # a threshold of a float: nobody can tell
        found["odd"] = trial.suggest_float("odd", 0.0, 1.0)
    return found


def vector(found: dict[str, Any], num: int) -> tuple[float, ...]:
    x = math.log10(found["rate"]) / 5 + found["grid"] + 0.1 * found.get("third", 0.5)
    x += 0.3 * (found["kind"] is None) + 0.05 * math.log2(found.get("size", 8))
    return tuple((x - i / max(num - 1, 1)) ** 2 for i in range(num))


@pytest.mark.parametrize("directions", [("minimize",), ("minimize",) * 2, ("maximize",) * 3])
def test_conditional_spaces_failures_and_stops(directions: tuple[str, ...]) -> None:
    study = study_of(*directions)
    sign = -1.0 if directions[0] == "maximize" else 1.0
    pruner = ParetoPruner(max_steps=3, grace_steps=1)

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        found = draw(trial)  # Optuna refuses what lies outside a distribution
        if trial.number % 7 == 3:
            raise ArithmeticError
        values = tuple(sign * value for value in vector(found, len(directions)))
        for step in (1, 2, 3):
            pruner.check(trial, values, step=step)
        return values

    study.optimize(objective, n_trials=40, catch=ArithmeticError)
    states = [t.state for t in study.trials]
    assert states.count(TrialState.FAIL) == 6
    assert TrialState.PRUNED in states
    model_drew = study.sampler.infer_relative_search_space(study, study.trials[-1])
    assert set(model_drew) >= {"kind", "rate", "grid", "layers"}
    assert "odd" not in model_drew


def trial_of(params: dict[str, Any], state: TrialState = TrialState.COMPLETE) -> Any:
    ranges: dict[str, BaseDistribution] = {
        "kind": CategoricalDistribution(["a", "b", "c"]),
        "layers": IntDistribution(1, 6),
        "x": FloatDistribution(0.0, 1.0),
        "y": FloatDistribution(0.0, 1.0),
        "z": FloatDistribution(0.0, 1.0),
    }
    values = [1.0] if state == TrialState.COMPLETE else None
    return create_trial(
        state=state,
        values=values,
        params=params,
        distributions={name: ranges[name] for name in params},
    )


def test_conditions_are_inferred_from_choices_numbers_and_what_depends_on_them() -> None:
    trials = [
        trial_of({"kind": "a", "layers": 1, "x": 0.1}),
        trial_of({"kind": "b", "layers": 4, "x": 0.1, "y": 0.2}),
        trial_of({"kind": "b", "layers": 2, "x": 0.1}),
        trial_of({"kind": "a", "layers": 3, "x": 0.1, "y": 0.2}),
        trial_of({"kind": "a"}, TrialState.FAIL),  # ended before it had drawn all
    ]
    found = {p.name: p.when for p in InferredSpace(trials).space.parameters}
    assert found["kind"] == found["layers"] == found["x"] == ()
    (when,) = found["y"]
    assert (when.name, when.values) == ("layers", (3, 4, 5, 6))  # beyond what was seen too
    trials = [
        trial_of({"kind": "a", "layers": 3, "y": 0.1}),
        trial_of({"kind": "c", "layers": 3, "y": 0.1}),
        trial_of({"kind": "b", "layers": 3}),
    ]
    found = {p.name: p.when for p in InferredSpace(trials).space.parameters}
    (when,) = found["y"]
    assert (when.name, when.values) == ("kind", (0, 2))
    trials.append(trial_of({"kind": "a", "layers": 3}))  # no longer explained
    inferred = InferredSpace(trials)
    assert {p.name for p in inferred.space.parameters} == {"kind", "layers"}
    assert inferred.places(trials[0]) == {"kind": 0, "layers": 3}
    assert InferredSpace([]).space.parameters == ()


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_values_lie_on_the_grid_of_their_range(data: st.DataObject) -> None:
    low = data.draw(st.integers(-50, 50))
    step = data.draw(st.integers(1, 7))
    num = data.draw(st.integers(0, 9))
    ints = IntDistribution(low, low + step * num, step=step)
    floats = FloatDistribution(low / 4, low / 4 + step / 8 * num, step=step / 8)
    trial = create_trial(
        state=TrialState.COMPLETE,
        values=[0.0],
        params={"i": low, "f": low / 4},
        distributions={"i": ints, "f": floats},
    )
    share = data.draw(st.integers(0, 1000)) / 1000
    asked = {"i": low + round(share * step * num), "f": low / 4 + share * step / 8 * num}
    found = InferredSpace([trial]).values(asked)
    assert found["i"] in range(low, low + step * num + 1, step)
    assert isinstance(found["i"], int)
    places = (found["f"] - low / 4) / (step / 8)
    assert places == pytest.approx(round(places))
    assert 0 <= round(places) <= num
    assert abs(found["f"] - asked["f"]) <= step / 16 + 1e-9


def test_the_same_trials_draw_the_same_whoever_asks(tmp_path: Any) -> None:
    """Another process, another storage: draws depend on the seed and what the trials say."""
    studies = [
        study_of("minimize", "minimize"),
        study_of("minimize", "minimize", storage=f"sqlite:///{tmp_path / 'o.db'}", study_name="s"),
    ]
    drawn: list[list[dict[str, Any]]] = [[], []]
    for number in range(12):
        for place, study in enumerate(studies):
            study.sampler = LearningCurveSampler(seed=0, num_startup_trials=4)
            trial = study.ask()
            found = draw(trial)
            drawn[place].append(found)
            study.tell(trial, vector(found, 2))
        assert drawn[0][number] == pytest.approx(drawn[1][number]), number
    assert len({tuple(map(str, d.values())) for d in drawn[0]}) == 12
    other = study_of("minimize", "minimize", seed=1)
    assert draw(other.ask()) != drawn[0][0]


def test_threads_get_different_trials() -> None:
    study = study_of("minimize", "minimize")
    study.optimize(lambda trial: vector(draw(trial), 2), n_trials=24, n_jobs=4)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 24
    assert len({str(sorted(t.params.items())) for t in study.trials}) == 24


def simple(trial: optuna.Trial) -> tuple[float, float]:
    """Front: x in [0, 1] at y = 0.7, of choice b."""
    x, y = trial.suggest_float("x", -1, 2), trial.suggest_float("y", 0, 1)
    poor = 4 * (y - 0.7) ** 2 + 0.5 * (trial.suggest_categorical("c", ["a", "b"]) == "a")
    return x**2 + poor, (x - 1) ** 2 + poor


def volume(study: optuna.Study) -> float:
    """The area of [0, 1.5]² that is dominated."""
    values = np.array([t.values for t in study.trials if t.values])
    total, edge = 0.0, 1.5
    for first, second in sorted(map(tuple, values[non_dominated(values)])):
        if first < 1.5 and second < edge:
            total += (1.5 - first) * (edge - second)
            edge = second
    return total


def test_it_finds_more_than_random_draws() -> None:
    better = 0
    for seed in range(5):
        ours = study_of("minimize", "minimize", seed=seed, startup=6)
        chance = optuna.create_study(
            directions=["minimize"] * 2, sampler=optuna.samplers.RandomSampler(seed=seed)
        )
        for study in (ours, chance):
            study.optimize(simple, n_trials=24)
        better += volume(ours) > volume(chance)
    assert better == 5


def test_maximising_the_negative_is_the_same() -> None:
    plain, mirrored = study_of("minimize", "minimize"), study_of("maximize", "minimize")
    plain.optimize(simple, n_trials=12)
    mirrored.optimize(lambda t: (lambda v: (-v[0], v[1]))(simple(t)), n_trials=12)
    for one, other in zip(plain.trials, mirrored.trials, strict=True):
        assert one.params == pytest.approx(other.params)


def test_constraints_are_heard() -> None:
    study = study_of("minimize", "minimize", startup=5)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        found = simple(trial)
        trial.set_constraint("x", 0.6 - trial.params["x"])  # x has to be at least 0.6
        return found

    study.optimize(objective, n_trials=30)
    late = [t.params["x"] for t in study.trials[10:]]
    assert sum(x >= 0.6 for x in late) >= 14  # of 20; a third of the range


def test_early_values_that_were_returned_as_final_do_not_count() -> None:
    """Who does not raise `TrialPruned` but returns: the model has it as stopped all the same."""
    drawn = []
    for told in (True, False):
        study = study_of("minimize", "minimize", startup=2)
        pruner = ParetoPruner(max_steps=9)
        for number in range(6):
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
            late = number >= 4
            pruner.report(trial, (x + late, 1 - x + late), step=3)
            assert pruner.should_prune(trial) == late
            if late and told:
                study.tell(trial, state=TrialState.PRUNED)
            elif late:
                study.tell(trial, (-9.0, -9.0))  # would be the best of all
            else:
                study.tell(trial, (x, 1 - x))
        drawn.append([study.ask().suggest_float("x", 0, 1) for _ in range(3)])
    assert drawn[0] == drawn[1]


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"`num_startup_trials` must be at least 2, got 1"):
        LearningCurveSampler(num_startup_trials=1)
