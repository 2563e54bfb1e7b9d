"""What a prior believes, how it is drawn from, and that it is forgotten."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.samplers.prior import _WRONG as WRONG
from search.samplers.prior import Belief, Prior
from search.samplers.trial_sampler import TrialSampler
from tests.search.samplers.test_learning_curves import SPACE, draws, vector

POINT = {"rate": 1e-2, "interval": 40}


def model_of(prior: Prior | None, seed: int = 0, sampler: str = "curves") -> TrialSampler:
    return TrialSampler(
        num_objectives=2, sampler=sampler, seed=seed, num_startup_trials=3, prior=prior
    )


def test_density_is_one_at_the_point_and_falls_by_the_kernel_of_every_named_parameter() -> None:
    prior = Prior(({"rate": 1e-2, "method": "a"},))
    asked: list[dict[str, Any]] = [
        {"method": "a", "sparsity": 0.9, "rate": 1e-2},
        {"method": "a", "sparsity": 0.5, "rate": 1e-2},  # of which the prior says nothing
        {"method": "b", "sparsity": 0.9, "rate": 1e-2, "interval": 3},
        {"method": "a", "sparsity": 0.9, "rate": 1e-2 * 10**0.3},  # a tenth of three decades
        {"method": "a", "sparsity": 0.9},
    ]
    expected = [1.0, 1.0, 0.2, math.exp(-0.5), 1.0]
    assert prior.density(SPACE, asked) == pytest.approx(expected, rel=1e-12)


def test_the_density_of_several_points_is_that_of_the_nearest() -> None:
    points: tuple[dict[str, Any], ...] = ({"rate": 1e-2}, {"rate": 1e-4, "method": "b"})
    asked = draws(20)
    each = [Prior((point,)).density(SPACE, asked) for point in points]
    assert Prior(points).density(SPACE, asked) == pytest.approx(np.max(each, axis=0))


def test_what_is_fixed_counts_for_nothing() -> None:
    fixed = SPACE.pinned({"rate": 1e-4})
    assert Prior(({"rate": 1e-2},)).density(fixed, draws(5)) == pytest.approx(np.ones(5))
    drawn = Prior(({"rate": 1e-2},)).near(fixed, {}, np.random.default_rng(0))
    assert "rate" not in drawn


points = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from("ab"),
        "sparsity": st.floats(0.5, 0.99),
        "rate": st.floats(1e-4, 1e-1),
        "interval": st.integers(1, 50),
    },
)


@settings(max_examples=50, deadline=None)
@given(st.lists(points, min_size=1, max_size=3), st.integers(0, 2**31), st.integers(0, 19))
def test_every_draw_is_one_that_the_space_could_draw(
    named: list[dict[str, Any]], seed: int, place: int
) -> None:
    prior, generator = Prior(tuple(named)), np.random.default_rng(seed)
    others = draws(20)[place]
    for given_others in ({}, others):
        drawn = prior.near(SPACE, given_others, generator)
        assert ("interval" in drawn) == (drawn["method"] == "b")
        for parameter in SPACE.parameters:
            if parameter.name in drawn:
                assert parameter.contains(drawn[parameter.name])
    assert 0 < prior.density(SPACE, [drawn])[0] <= 1.0 or np.isclose(
        prior.density(SPACE, [drawn])[0], 0.0
    )


def test_draws_lie_about_the_point_and_the_rest_is_as_given() -> None:
    prior, generator = Prior((POINT,)), np.random.default_rng(1)
    others = {"method": "b", "sparsity": 0.77, "rate": 1e-4, "interval": 2}
    found = [prior.near(SPACE, others, generator) for _ in range(2000)]
    assert {(d["method"], d["sparsity"]) for d in found} == {("b", 0.77)}
    decades = np.log10([d["rate"] for d in found])
    assert np.mean(decades) == pytest.approx(-2.0, abs=0.03)
    assert np.std(decades) == pytest.approx(0.3, abs=0.02)
    free = [prior.near(SPACE, {}, generator) for _ in range(2000)]
    assert np.mean([d["sparsity"] for d in free]) == pytest.approx(0.745, abs=0.01)  # uniform
    chosen = [Prior(({"method": "b"},)).near(SPACE, {}, generator)["method"] for _ in range(2000)]
    assert chosen.count("b") / 2000 == pytest.approx(1 / 1.2, abs=0.03)


def belief(num_complete: int, ended: list[dict[str, Any]], front: list[dict[str, Any]]) -> Belief:
    return Prior((POINT,)).held(SPACE, ended, front, num_complete, np.random.default_rng(0))


def test_it_is_forgotten_with_trials_and_sooner_where_they_refute_it() -> None:
    assert belief(0, [], []).power == 1.0
    powers = [belief(n, [], []).power for n in range(40)]
    assert powers == sorted(powers, reverse=True)
    assert powers[-1] < 0.01
    near = {"method": "a", "sparsity": 0.9, "rate": 1e-2}
    far = {"method": "a", "sparsity": 0.9, "rate": 1e-4}
    assert belief(5, [far], []).power == powers[5]  # says nothing of it
    assert belief(5, [near, far], [near]).power == powers[5]  # bears it out
    assert belief(5, [near, far], [far]).power < powers[5]
    assert belief(5, [near, dict(near)], []).power < belief(5, [near], []).power
    unread = {"method": "a", "sparsity": 0.9}  # says nothing of it either
    assert belief(5, [unread], []).power == powers[5]


def test_a_weight_is_the_density_to_a_power_and_none_in_a_draw_from_the_prior() -> None:
    """But for the chance that the prior is wrong, which bounds what it can hide."""
    prior, generator = Prior((POINT,)), np.random.default_rng(0)
    asked = draws(9)
    held = Belief(prior, SPACE, 0.25, False, generator)
    believed = WRONG + (1 - WRONG) * prior.density(SPACE, asked)
    assert held.weights(asked) == pytest.approx(believed**0.25)
    assert held.weights(asked).min() >= WRONG**0.25
    assert Belief(prior, SPACE, 0.25, True, generator).weights(asked) == pytest.approx(np.ones(9))
    mixed = held.mixed_into(asked)
    assert mixed[::2] == asked[::2]
    assert held.kept(asked) == asked


@pytest.mark.parametrize("sampler", ["curves", "random"])
def test_first_draws_come_from_it_and_later_ones_need_not(sampler: str) -> None:
    prior = Prior(({"rate": 1e-4, "sparsity": 0.52, "method": "a"},))  # far from what is good
    first, later = {"with": 0, "without": 0}, 0
    for seed in range(6):
        for name, given_prior in (("with", prior), ("without", None)):
            model = model_of(given_prior, seed, sampler)
            for number in range(16 if name == "with" else 4):
                drawn, _ = model.ask(number, SPACE)
                believed = bool(prior.density(SPACE, [drawn])[0] > math.exp(-4))
                if number < 4:
                    first[name] += believed
                later += believed and number > 10
                values = vector(drawn)
                model.tell(number, "complete", [values[0] + 0.3 * believed, values[1]])
    assert first["with"] >= first["without"] + 6, first  # of 24
    assert later <= 5  # of 30


def test_draws_are_the_same_for_the_next_driver() -> None:
    prior = Prior((POINT,))
    whole = model_of(prior)
    ended: list[tuple[Any, list[float]]] = []
    for number in range(8):
        drawn, draw = whole.ask(number, SPACE)
        again = model_of(prior)
        for known, (known_draw, values) in enumerate(ended):
            again.learn(known, known_draw, "complete", values)
        assert again.ask(number, SPACE)[0] == drawn
        ended.append((draw, vector(drawn)))
        whole.tell(number, "complete", ended[-1][1])
