"""Proposals from learning curves: laws of what is proposed, and that it is worth something."""

import math
from typing import Any

import numpy as np
import pytest

from analysis.statistics.pareto import non_dominated
from search.samplers.further_gain import expected_gains
from search.samplers.gaussian_process import hyperparameters
from search.samplers.learning_curves import CurveModel
from search.samplers.posterior import Posterior
from spaces.space import Parameter, Space, When

SPACE = Space(
    name="test",
    doc="conditional, with every kind of parameter",
    parameters=(
        Parameter(name="method", kind="categorical", choices=("a", "b"), default="a", doc=""),
        Parameter(name="sparsity", kind="float", low=0.5, high=0.99, default=0.9, doc=""),
        Parameter(name="rate", kind="float", low=1e-4, high=1e-1, log=True, default=1e-3, doc=""),
        Parameter(
            name="interval",
            kind="int",
            low=1,
            high=50,
            log=True,
            default=10,
            when=(When(name="method", values=("b",)),),
            doc="",
        ),
    ),
)


def error(params: dict[str, Any]) -> float:
    """Best for method b at rate 10^-2.5 and interval 7."""
    off = math.log10(params["rate"]) + 2.5
    method = 0.2 if params["method"] == "a" else 0.02 * math.log(params["interval"] / 7) ** 2
    return 0.2 + 0.5 * (params["sparsity"] - 0.5) ** 2 + method + 0.2 * off**2


def vector(params: dict[str, Any]) -> list[float]:
    return [error(params), 1.0 - params["sparsity"]]


def draws(num: int, seed: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(num):
        params: dict[str, Any] = {
            "method": "ab"[int(generator.integers(2))],
            "sparsity": float(generator.uniform(0.5, 0.99)),
            "rate": float(10 ** generator.uniform(-4, -1)),
        }
        if params["method"] == "b":
            params["interval"] = int(generator.integers(1, 51))
        found.append(params)
    return found


def trained(num: int = 12) -> CurveModel:
    model = CurveModel(seed=0)
    for number, params in enumerate(draws(num)):
        model.started(number, params)
        model.ended(number, vector(params))
    return model


def test_every_proposal_is_one_that_the_space_could_draw() -> None:
    model = trained()
    for number in range(12, 24):
        proposal = model.propose(number, SPACE)
        assert proposal is not None
        assert ("interval" in proposal) == (proposal["method"] == "b")
        for parameter in SPACE.parameters:
            if parameter.name in proposal:
                assert parameter.contains(proposal[parameter.name])
        model.started(number, proposal)


def test_too_little_is_known_at_first() -> None:
    model = CurveModel(seed=0)
    assert model.propose(0, SPACE) is None
    (first, second) = draws(2)
    model.started(0, first)
    model.ended(0, vector(first))
    assert model.propose(1, SPACE) is None
    model.started(1, second)
    model.ended(1)  # it failed
    assert model.propose(2, SPACE) is None


def test_a_proposal_depends_on_what_was_told_and_not_on_when() -> None:
    """A restarted driver tells ends before reports, or reports after ends."""
    first, second = trained(), CurveModel(seed=0)
    at_work = draws(2, seed=9)
    for number, params in enumerate(at_work, start=12):
        first.started(number, params)
        first.reported(number, 0.2, [0.9, 0.1])
        first.reported(number, 0.5, [0.8, 0.1])
    for number, params in reversed(list(enumerate([*draws(12), *at_work]))):
        second.started(number, params)
    for number in (13, 12):
        second.reported(number, 0.5, [0.8, 0.1])
        second.reported(number, 0.2, [0.9, 0.1])
    for number, params in reversed(list(enumerate(draws(12)))):
        second.ended(number, vector(params))
    assert first.propose(14, SPACE) == second.propose(14, SPACE)
    assert first.propose(14, SPACE) != first.propose(15, SPACE)


@pytest.mark.parametrize(("most_fresh", "fits"), [(1000, [2, 4, 6, 8, 10]), (10, [2, 2, 2, 2, 4])])
def test_of_many_points_fits_are_made_when_a_tenth_more_trials_ended(
    most_fresh: int, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few points for every draw; else to the first 38 of 38 to 41 trials, and to 42 of 42."""
    monkeypatch.setattr("search.samplers.posterior._MAX_FRESH", most_fresh)
    hyperparameters.cache_clear()
    model, made = trained(38), []
    for number, params in enumerate(draws(5, seed=7), start=38):
        assert model.propose(number, SPACE) is not None
        made.append(hyperparameters.cache_info().misses)  # one for each objective
        model.started(number, params)
        model.ended(number, vector(params))
    assert made == fits


def test_two_workers_do_not_get_the_same() -> None:
    model = trained()
    given = []
    for number in range(12, 18):
        proposal = model.propose(number, SPACE)
        assert proposal is not None
        model.started(number, proposal)
        given.append((round(proposal["sparsity"], 3), round(math.log10(proposal["rate"]), 2)))
    assert len(set(given)) == len(given)
    # Two at one cost are two guesses at how to get there; that cost is the least there is.
    inner = [sparsity for sparsity, _ in given if sparsity < 0.99]
    assert len(set(inner)) == len(inner) >= 2


def test_it_finds_better_trials_than_drawing_does() -> None:
    model = trained()
    found = []
    for number in range(12, 30):
        proposal = model.propose(number, SPACE)
        assert proposal is not None
        model.started(number, proposal)
        model.ended(number, vector(proposal))
        found.append(error(proposal) - 0.2 - 0.5 * (proposal["sparsity"] - 0.5) ** 2)
    drawn = [error(p) - 0.2 - 0.5 * (p["sparsity"] - 0.5) ** 2 for p in draws(200, seed=4)]
    assert np.median(found[6:]) < np.quantile(drawn, 0.1)


def test_curves_that_have_not_ended_teach() -> None:
    """Reports of trials at work change what is proposed."""
    with_reports, without = trained(6), trained(6)
    for number, params in enumerate(draws(8, seed=3), start=6):
        for model in (with_reports, without):
            model.started(number, params)
        with_reports.reported(number, 1 / 3, [error(params) + 0.1, 1.0 - params["sparsity"]])
    assert with_reports.propose(14, SPACE) != without.propose(14, SPACE)


def test_what_is_no_number_is_left_out() -> None:
    model, plain = trained(), trained()
    params = draws(1, seed=8)[0]
    for one in (model, plain):
        one.started(12, params)
    model.reported(12, 0.5, [math.nan, 0.1])
    model.reported(12, 0.5, [math.inf, 0.1])
    assert model.propose(13, SPACE) == plain.propose(13, SPACE)


def test_a_reference_of_another_method_teaches_nothing() -> None:
    model, plain = trained(), trained()
    model.started(12, {"rate": 1e-3})
    model.ended(12, [0.0, 1.0])
    assert model.propose(13, SPACE) == plain.propose(13, SPACE)


def test_constraints_are_kept_where_something_keeps_them() -> None:
    model = CurveModel(seed=0)
    for number, params in enumerate(draws(20)):
        model.started(number, params)
        model.ended(number, vector(params), {"error": error(params) - 0.3})
    proposals = []
    for number in range(20, 32):
        proposal = model.propose(number, SPACE)
        assert proposal is not None
        model.started(number, proposal)
        model.ended(number, vector(proposal), {"error": error(proposal) - 0.3})
        proposals.append(proposal)
    held = sum(error(p) <= 0.3 for p in proposals[4:])
    by_chance = np.mean([error(p) <= 0.3 for p in draws(500, seed=6)])
    assert by_chance < 0.3
    assert held >= 5


def test_gains_are_shares_of_hypervolume() -> None:
    """Against the exact area in two objectives: the same order, in proportion."""
    generator = np.random.default_rng(0)
    front = np.array([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]])
    candidates = generator.uniform(-0.1, 1.0, (40, 2))

    def area(points: np.ndarray) -> float:
        total, edge = 0.0, 1.1
        for x, y in sorted(map(tuple, points)):
            if y < edge and x < 1.1:
                total += (1.1 - x) * (edge - y)
                edge = y
        return total

    exact = np.array([area(np.vstack([front, c])) - area(front) for c in candidates])
    ends = np.tile(candidates, (400, 1, 1))
    holds = np.ones(ends.shape[:2], dtype=bool)
    gains = expected_gains(ends, holds, front, 0, np.random.default_rng(0))
    assert np.corrcoef(exact, gains)[0, 1] > 0.995


def test_a_front_of_one_point_has_a_box_as_wide_as_what_is_known() -> None:
    """Worked by hand, on scales of 100 and 0.01: 1.2 · 1.1 - 1.1² is 0.11, 1.3 · 1.1 - 1.1² twice
    that."""
    front = np.array([[0.0, 0.0]])
    asked = np.array([[-10.0, 0.0], [0.0, -0.001], [-20.0, 0.0]])
    ends = np.tile(asked, (4000, 1, 1))
    holds = np.ones(ends.shape[:2], dtype=bool)

    def gains(spare: np.ndarray | float) -> np.ndarray:
        return expected_gains(ends, holds, front, 0, np.random.default_rng(0), spare)

    first, second, twice = gains(np.array([100.0, 0.01]))
    assert second == pytest.approx(first, rel=0.05)
    assert twice == pytest.approx(2 * first, rel=0.05)
    # Without a scale the objective of large numbers is all that counts.
    first, second, _ = gains(1.0)
    assert first > 100 * second
    assert np.array_equal(gains(np.zeros(2)), gains(1.0))


def test_rounds_find_proposals_that_are_believed_to_gain_more() -> None:
    """Judged anew, by many samples that no proposal was chosen by."""
    model = trained(16)

    def proposals(num_rounds: int) -> list[dict[str, Any]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("search.samplers.learning_curves._MAX_ROUNDS", num_rounds)
            found = [model.propose(number, SPACE) for number in range(16, 24)]
        return [proposal for proposal in found if proposal is not None]

    asked = [*proposals(6), *proposals(0)]
    front = np.array([vector(params) for params in draws(16)])
    front = front[non_dominated(front)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.samplers.posterior._NUM_SAMPLES", 512)
        posterior = Posterior(SPACE, list(model._curves.values()), [])
        ends = posterior.sample(asked, np.random.default_rng(5))
    holds = np.ones(ends.shape[:2], dtype=bool)
    gains = expected_gains(ends, holds, front, 0, np.random.default_rng(6))
    assert gains[:8].mean() > 1.02 * gains[8:].mean()


def test_gains_count_trials_at_work_and_constraints_sample_by_sample() -> None:
    front = np.array([[0.0, 1.0], [1.0, 0.0]])
    asked = np.array([[0.3, 0.3], [0.3, 0.3], [0.9, 0.2]])  # the first is at work
    ends = np.tile(asked, (64, 1, 1))

    def gains(holds: np.ndarray) -> np.ndarray:
        return expected_gains(ends, holds, front, 1, np.random.default_rng(0))

    everything = np.ones(ends.shape[:2], dtype=bool)
    twice, other = gains(everything)
    assert twice == 0.0
    assert other > 0.0
    at_work_fails, half = everything.copy(), everything.copy()
    at_work_fails[:, 0] = False
    assert gains(at_work_fails)[0] > 0.0
    half[::2, 2] = False
    assert gains(half)[1] == pytest.approx(other / 2, rel=0.5)
