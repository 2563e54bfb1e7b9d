"""What the sampler is told, and that its draws depend on nothing else."""

import math
import random
from typing import Any

import pytest
from optuna.trial import BaseTrial, TrialState

from search.plans.recipe import SAMPLERS
from search.samplers.gaussian_process import hyperparameters
from search.samplers.trial_sampler import TrialSampler
from spaces.space import Parameter, Space, When
from trainables.errors import UserError

pytestmark = pytest.mark.timeout(180)  # a draw of the Gaussian process takes a second or more

STARTUP = 4
samplers = pytest.mark.parametrize("sampler", SAMPLERS)


SPACE = Space(
    name="test",
    doc="what is drawn third depends on the first",
    parameters=(
        Parameter(name="kind", kind="categorical", choices=("a", "b"), default="a", doc=""),
        Parameter(name="x", kind="float", low=0.0, high=1.0, default=0.5, doc=""),
        Parameter(
            name="steps",
            kind="int",
            low=1,
            high=64,
            log=True,
            default=8,
            when=(When(name="kind", values=("b",)),),
            doc="",
        ),
    ),
)


def vector_of(drawn: dict[str, Any], num_objectives: int) -> list[float]:
    base = drawn["x"] + 0.1 * drawn.get("steps", 0)
    return [
        math.cos(i + base) + (0.5 if drawn["kind"] == "a" else 0.0) for i in range(num_objectives)
    ]


def model_of(sampler: str, num_objectives: int = 2, seed: int = 3) -> TrialSampler:
    return TrialSampler(
        num_objectives=num_objectives,
        sampler=sampler,
        seed=seed,
        num_startup_trials=STARTUP,
    )


End = tuple[str, list[float] | None, dict[str, float]]


class History:
    """A study that a driver runs, several trials at once; another driver can take it over."""

    def __init__(self, sampler: str, num_objectives: int, seed: int) -> None:
        self.arguments = (sampler, num_objectives)
        self.model = self._new()
        self.draws: list[BaseTrial] = []
        self.drawn: list[dict[str, Any]] = []
        self.ends: dict[int, End] = {}
        self.random = random.Random(seed)

    def _new(self) -> TrialSampler:
        return model_of(*self.arguments)

    def begin(self) -> None:
        number = len(self.draws)
        fixed = {"kind": "b", "x": 0.25, "steps": 8} if number == 1 else None
        drawn, draw = self.model.ask(number, SPACE, fixed)
        self.drawn.append(drawn)
        self.draws.append(draw)

    def end(self) -> None:
        running = [n for n in range(len(self.draws)) if n not in self.ends]
        number = self.random.choice(running)
        status = self.random.choice(["complete"] * 4 + ["infeasible", "stopped", "failed"])
        values: list[float] | None = vector_of(self.drawn[number], self.arguments[1])
        violations = {"cap": -1.0 if status == "complete" else 0.5}
        if status == "failed":
            values = None
        self.ends[number] = (status, values, violations)
        self.model.tell(number, *self.ends[number])

    def restart(self) -> None:
        """As the ledger does: by number, what was drawn, and how it ended."""
        hyperparameters.cache_clear()  # another process remembers nothing
        self.model = self._new()
        for number, draw in enumerate(self.draws):
            if number in self.ends:
                self.model.learn(number, draw, *self.ends[number])
            else:
                self.model.resume(number, draw)


@pytest.mark.parametrize(
    ("sampler", "concurrency"),
    [
        *((sampler, 1) for sampler in SAMPLERS),
        # Optuna's own may draw otherwise while trials are at work.
        ("curves", 3),
        ("random", 3),
    ],
)
def test_a_driver_that_was_told_the_same_draws_the_same(
    sampler: str, concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if concurrency == 3:  # as of many points
        monkeypatch.setattr("search.samplers.posterior._MAX_FRESH", 5)
    whole, broken = (History(sampler, 2, seed=concurrency) for _ in range(2))
    for step in range(9 if sampler == "gp" else 24):
        for history in (whole, broken):
            while len(history.draws) - len(history.ends) < concurrency:
                history.begin()
        assert broken.drawn == whole.drawn, step
        for history in (whole, broken):
            history.end()
        if step % 2:
            broken.restart()
    distinct = {tuple(drawn.items()) for drawn in whole.drawn}
    assert len(distinct) > len(whole.drawn) / 2  # it is a search


@samplers
@pytest.mark.parametrize("num_objectives", [2, 6])
def test_every_sampler_draws_with_no_complete_trial_and_after_some(
    sampler: str, num_objectives: int
) -> None:
    model = model_of(sampler, num_objectives)
    for number in range(STARTUP + 1):  # nothing that has values
        model.ask(number, SPACE)
        model.tell(number, ["failed", "stopped"][number % 2], None)
    for number in range(STARTUP + 1, 2 * STARTUP + 2):
        drawn, draw = model.ask(number, SPACE)
        assert dict(draw.params) == drawn
        assert set(draw.distributions) == set(drawn)
        model.tell(number, "complete", vector_of(drawn, num_objectives))


@samplers
def test_what_is_not_a_number_blocks_nothing(sampler: str) -> None:
    model = model_of(sampler)
    ends: list[tuple[str, list[float] | None]] = [
        ("complete", [math.nan, 1.0]),
        ("complete", [math.inf, 1.0]),
        ("infeasible", [1.0, -math.inf]),
        ("complete", None),
        ("stopped", [math.nan, math.nan]),
        ("failed", [math.nan, 1.0]),
    ]
    for number, (status, values) in enumerate([*ends, *ends]):
        _, draw = model.ask(number, SPACE)
        if number < len(ends):
            model.tell(number, status, values)
        else:
            model.tell(number, "failed", None)
            model.learn(number + 100, draw, status, values)
    states = {t.state for t in model._study.get_trials()}
    assert states == {TrialState.FAIL, TrialState.PRUNED}  # none is left running, none is a value
    model.ask(99, SPACE)


def test_a_stopped_trial_is_told_as_poorer_than_every_complete_one() -> None:
    """Without the values of its last report, which are not final: Optuna's PRUNED."""
    model = model_of("tpe")
    _, draw = model.ask(0, SPACE)
    model.tell(0, "stopped", [1.0, 2.0], {"cap": 0.5})
    model.learn(1, draw, "stopped", [1.0, 2.0], {"cap": 0.5})
    trials = model._study.get_trials()
    assert [t.state for t in trials] == [TrialState.PRUNED] * 2
    assert [t.values for t in trials] == [None] * 2
    assert [t.constraints for t in trials] == [{}] * 2


def test_a_poor_trial_turns_the_model_away_from_its_region() -> None:
    """Of trials below 0.5 all were stopped, or failed. Few more are drawn where they were stopped;
    a failure says nothing of its region."""
    shares = {}
    for ending in ("stopped", "failed"):
        low = 0
        for seed in range(3):
            model = model_of("tpe", seed=seed)
            generator = random.Random(seed)
            for number in range(40):
                x = generator.random()
                fixed = {"kind": "a", "x": x}
                model.ask(number, SPACE, fixed)
                if x < 0.5:
                    model.tell(number, ending, [0.0, 0.0])
                else:
                    model.tell(number, "complete", [x, 1.0 - x])
            for number in range(40, 55):
                drawn, _ = model.ask(number, SPACE)
                low += drawn["x"] < 0.5
                model.tell(number, "failed")
        shares[ending] = low / 45
    assert shares["stopped"] < 0.2
    assert shares["failed"] > shares["stopped"]


@samplers
def test_constraints_reach_optuna(sampler: str) -> None:
    model = model_of(sampler)
    for number in range(STARTUP + 2):
        drawn, draw = model.ask(number, SPACE)
        broken = number % 2
        status = "infeasible" if broken else "complete"
        violations = {"val/a": 1.0 * broken, "cost/b": math.inf if number == 3 else -0.1}
        model.tell(number, status, vector_of(drawn, 2), violations)
        told = model._study.get_trials()[-1]
        assert (told.state, told.constraints) == (TrialState.COMPLETE, violations)
    assert {t.number for t in model._study.best_trials} <= {0, 2, 4}
    again = model_of(sampler)
    again.learn(0, draw, "infeasible", [1.0, 1.0], {"val/a": 2.0})
    assert again._study.get_trials()[0].constraints == {"val/a": 2.0}
    model.ask(99, SPACE)


def test_a_conditional_parameter_is_drawn_where_it_is_active_alone() -> None:
    model = model_of("tpe")
    for number in range(20):
        drawn, draw = model.ask(number, SPACE)
        assert ("steps" in draw.params) == (drawn["kind"] == "b")
        model.tell(number, "complete", vector_of(drawn, 2))


def test_what_other_studies_know_decides_the_first_draws() -> None:
    """What is known was good near 0.93; a random draw would not care."""
    model, random_draws = model_of("tpe"), model_of("tpe")
    for i in range(30):
        x = i / 30
        _, draw = model_of("random").ask(0, SPACE, {"kind": "a", "x": x})
        model.learn(i - 30, draw, "complete", [abs(x - 0.93), 2 * abs(x - 0.93)], {})
    drawn = [model.ask(number, SPACE)[0] for number in range(20)]
    first = [random_draws.ask(number, SPACE)[0] for number in range(20)]
    assert drawn[0] != first[0]
    near = [sum(d["x"] >= 0.85 for d in draws) for draws in (drawn, first)]
    assert near[0] >= near[1] + 4, near


def test_mistakes_list_what_is_valid() -> None:
    with pytest.raises(UserError, match=r"unknown sampler .*Valid: curves, gp, random, tpe"):
        model_of("tpee")
