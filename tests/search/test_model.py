"""What the sampler is told, and that its draws depend on nothing else; see `search.model`."""

import math
import random
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.model import SAMPLERS, STOPPED_VIEWS, Draw, Model
from trainables.errors import UserError

STARTUP = 4
samplers = pytest.mark.parametrize("sampler", SAMPLERS)


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """A conditional space: what is drawn second depends on the first."""
    drawn: dict[str, Any] = {"kind": trial.suggest_categorical("kind", ["a", "b"])}
    drawn["x"] = trial.suggest_float("x", 0.0, 1.0)
    if drawn["kind"] == "b":
        drawn["steps"] = trial.suggest_int("steps", 1, 64, log=True)
    return drawn


def vector_of(drawn: dict[str, Any], num_objectives: int) -> list[float]:
    base = drawn["x"] + 0.1 * drawn.get("steps", 0)
    return [
        math.cos(i + base) + (0.5 if drawn["kind"] == "a" else 0.0) for i in range(num_objectives)
    ]


def model_of(sampler: str, num_objectives: int = 2, **changes: Any) -> Model:
    return Model(
        num_objectives=num_objectives,
        sampler=sampler,
        seed=3,
        num_startup_trials=STARTUP,
        **changes,
    )


End = tuple[str, list[float] | None, dict[str, float]]


class History:
    """A study that a driver runs, several trials at once; another driver can take it over."""

    def __init__(self, sampler: str, num_objectives: int, stopped: str, seed: int) -> None:
        self.arguments = (sampler, num_objectives)
        self.stopped = stopped
        self.model = self._new()
        self.draws: list[Draw] = []
        self.drawn: list[dict[str, Any]] = []
        self.ends: dict[int, End] = {}
        self.random = random.Random(seed)

    def _new(self) -> Model:
        return model_of(*self.arguments, stopped=self.stopped)

    def begin(self) -> None:
        number = len(self.draws)
        fixed = {"kind": "b", "x": 0.25, "steps": 8} if number == 1 else None
        drawn, draw = self.model.ask(number, suggest, fixed)
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
        self.model = self._new()
        for number, draw in enumerate(self.draws):
            if number in self.ends:
                self.model.learn(draw, *self.ends[number])
            else:
                self.model.resume(number, draw)


@samplers
@pytest.mark.parametrize(("stopped", "concurrency"), [("poor", 1), ("ignored", 3), ("rung", 3)])
def test_a_driver_that_was_told_the_same_draws_the_same(
    sampler: str, stopped: str, concurrency: int
) -> None:
    whole, broken = (History(sampler, 2, stopped, seed=concurrency) for _ in range(2))
    for step in range(9 if sampler == "gp" else 24):
        for history in (whole, broken):
            while len(history.draws) - len(history.ends) < concurrency:
                history.begin()
        assert broken.draws == whole.draws, step
        for history in (whole, broken):
            history.end()
        if step % 2:
            broken.restart()
    assert len({d["x"] for d in whole.drawn}) > len(whole.drawn) / 2  # it is a search
