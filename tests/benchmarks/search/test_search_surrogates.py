"""The surrogates: their curves end where the equations say, their fronts are what brute force
finds."""

from typing import Any

import numpy as np
import pytest

from analysis.statistics.indicators import hypervolume
from analysis.statistics.pareto import dominates, non_dominated
from benchmarks.search.systems.peers import Draw
from benchmarks.search.workloads.surrogates import (
    METHODS,
    NOISE,
    NUM_EPOCHS,
    SURROGATES,
    Points,
    get_surrogate,
)
from benchmarks.search.workloads.workload import Report
from trainables.errors import UserError

NAMES = list(SURROGATES)
PARAMS: dict[str, Any] = {
    "method": "dynamic",
    "sparsity.target": 0.745,  # u = 0.5
    "optimiser.learning_rate": 10**-1.75,  # x = 0.5
    "regrowth.fraction": 0.5,
    "sparsity.allocation": "er",
}


def draws(number: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = Draw(np.random.default_rng(seed))
    return [get_surrogate("six").space.suggest(draw) for _ in range(number)]


def stacked(params: list[dict[str, Any]]) -> Points:
    points = [Points.of(p) for p in params]
    columns = {n: np.concatenate([getattr(p, n) for p in points]) for n in Points.__slots__}
    return Points(**columns)


def test_the_end_worked_by_hand() -> None:
    # 0.2 + 0.3/2 + 0.4/64 + (0.08 - 0.04/2) + 0.2 (0.5 - 0.2 + 0.15)^2 + 0.6 · 0.1^2 + 0.02
    expected = 0.2 + 0.15 + 0.00625 + 0.06 + 0.0405 + 0.006 + 0.02
    (final,) = SURROGATES["parallel"].final(Points.of(PARAMS))
    assert final == pytest.approx([expected, 0.255], abs=1e-12)


def test_a_wave_and_a_task_of_its_own_worked_by_hand() -> None:
    # sin(5 π / 2) = 1, so the wave adds 0.1; x* is 0.1 instead of 0.2.
    expected = 0.2 + 0.15 + 0.00625 + 0.06 + 0.2 * 0.55**2 + 0.006 + 0.02 + 0.1
    (final,) = SURROGATES["discontinuous"].final(Points.of(PARAMS))
    assert final[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_curve_ends_at_the_final_vector_and_its_cost_never_moves(name: str) -> None:
    surrogate = SURROGATES[name]
    points = stacked(draws(50))
    curve = surrogate.curve(points, np.arange(1, NUM_EPOCHS + 1) / NUM_EPOCHS)
    np.testing.assert_allclose(curve[:, -1], surrogate.final(points), rtol=0, atol=1e-12)
    assert (curve[:, :, -1] == curve[:, :1, -1]).all()


def test_parallel_curves_keep_their_order_and_crossing_ones_do_not() -> None:
    points = stacked(draws(60))
    early = np.array([1 / 9])

    def kendall(name: str) -> float:
        """Share of pairs in the same order at a ninth of training as at the end."""
        surrogate = SURROGATES[name]
        at, end = surrogate.curve(points, early)[:, 0, 0], surrogate.final(points)[:, 0]
        agree = np.sign(at[:, None] - at) == np.sign(end[:, None] - end)
        return float(agree[np.triu_indices(len(at), 1)].mean())

    assert kendall("parallel") == 1.0
    assert kendall("crossing") < 0.9


def test_of_one_cost_the_slow_learner_ends_better_where_curves_cross() -> None:
    slow = {"method": "magnitude", "sparsity.target": 0.6, "optimiser.learning_rate": 10**-2.8}
    fast = {**slow, "optimiser.learning_rate": 10**-1.5}
    points = stacked([slow, fast])
    curve = SURROGATES["crossing"].curve(points, np.array([1 / 27, 1 / 9, 1.0]))[:, :, 0]
    assert (curve[0] > curve[1]).tolist() == [True, True, False]


@pytest.mark.parametrize("name", NAMES)
def test_no_configuration_dominates_the_front(name: str) -> None:
    """Brute force: 5,000 draws and 5,000 near the front's own settings."""
    surrogate = SURROGATES[name]
    front = surrogate.front()
    assert non_dominated(front).all()
    values = surrogate.final(stacked(draws(5000)))
    values = values[surrogate.feasible(values)]
    # Between two points of the grid a little can be gained.
    better = [v for v in values if (front >= v + 0.01).all(axis=1).any()]
    assert better == []


@pytest.mark.parametrize("name", [n for n in NAMES if len(SURROGATES[n].tasks) == 1])
def test_the_front_of_one_task_is_the_best_of_every_method_at_its_optimum(name: str) -> None:
    surrogate = SURROGATES[name]
    task = surrogate.tasks[0]
    best = []
    for sparsity in np.linspace(0.5, 0.99, 401):
        u = (sparsity - 0.5) / 0.49
        added = min(a + b * u for a, b in task.methods)
        error = 0.2 + 0.3 * u + 0.4 * u**6 + task.wave * np.sin(5 * np.pi * u) + added
        best.append((error, 1 - sparsity))
    allowed = [b for b in best if b[0] <= surrogate.max_error and b[1] <= surrogate.max_density]
    undominated = [b for b in allowed if not any(dominates(other, b) for other in allowed)]
    found = surrogate.front()
    np.testing.assert_allclose(
        found[np.argsort(found[:, 1])], sorted(undominated, key=lambda b: b[1]), atol=1e-12
    )


def test_the_discontinuous_front_has_gaps_and_the_others_have_none() -> None:
    def widest_gap(name: str) -> float:
        costs = np.sort(SURROGATES[name].front()[:, -1])
        return float(np.diff(costs).max())

    step = 0.49 / 400
    assert widest_gap("discontinuous") > 20 * step
    assert widest_gap("parallel") == pytest.approx(step)


def test_no_method_is_best_throughout() -> None:
    task = SURROGATES["parallel"].tasks[0]
    best = {int(np.argmin([a + b * u for a, b in task.methods])) for u in np.linspace(0, 1, 11)}
    assert {METHODS[index] for index in best} == {"magnitude", "saliency", "dynamic"}


def test_violations_are_relative_to_the_bound() -> None:
    values = np.array([[0.5, 0.25], [0.6, 0.2], [0.4, 0.3], [0.7, 0.5]])
    found = SURROGATES["infeasible"].violations(values)
    np.testing.assert_allclose(found["error-0"], [0, 0.2, -0.2, 0.4], atol=1e-12)
    np.testing.assert_allclose(found["density"], [0, -0.2, 0.2, 1.0], atol=1e-12)
    assert SURROGATES["infeasible"].feasible(values).tolist() == [True, False, False, False]
    assert SURROGATES["crossing"].violations(values) == {}


def test_a_report_sums_what_is_missed_up() -> None:
    report = Report(
        epoch=1, fraction=0.1, values=(), worth=(), violations={"a": 0.25, "b": -1.0, "c": 0.5}
    )
    assert report.violation == 0.75


def test_few_configurations_are_feasible() -> None:
    surrogate = SURROGATES["infeasible"]
    values = surrogate.final(stacked(draws(2000)))
    assert 0.02 < surrogate.feasible(values).mean() < 0.2


def test_noise_is_that_of_the_configuration_and_the_seed_and_spares_cost_and_worth() -> None:
    surrogate = SURROGATES["three"]

    def reports(seed: int, **changes: Any) -> list[Any]:
        run = surrogate.start(PARAMS | changes, seed)
        return [run.next_report() for _ in range(NUM_EPOCHS)]

    first = reports(1)
    assert first == reports(1)
    assert first != reports(2)
    noise = np.array([np.subtract(r.values, r.worth) for r in first])
    assert (noise[:, -1] == 0).all()
    assert 0.5 * NOISE < noise[:, :-1].std() < 1.5 * NOISE
    assert [r.worth for r in first] == [r.worth for r in reports(2)]
    other = np.array(
        [np.subtract(r.values, r.worth) for r in reports(1, **{"sparsity.target": 0.7})]
    )
    assert abs(np.corrcoef(noise[:, 0], other[:, 0])[0, 1]) < 0.6
    assert first[-1].fraction == 1.0


@pytest.mark.parametrize("name", ["parallel", "crossing", "discontinuous", "infeasible"])
def test_the_front_leaves_room_above_random_draws(name: str) -> None:
    surrogate = SURROGATES[name]
    normalisation = surrogate.normalisation
    values = surrogate.final(stacked(draws(40)))
    feasible = values[surrogate.feasible(values)]
    assert hypervolume(feasible, normalisation) < 0.95 * hypervolume(
        surrogate.front(), normalisation
    )


def test_an_unknown_surrogate_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="crossing"):
        get_surrogate("no-such")
