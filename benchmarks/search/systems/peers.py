"""The systems ours is compared with, each driven through its own class.

Early-stopping peers have rungs at a ninth and a third of training (factor 3),
and no peer knows of constraints. Ray, Optuna and Syne Tune are imported where they are needed.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.search.workloads.workload import Report, Workload
from spaces.space import GivenValues, Space

# Configurations that the first trials have; of a scheduler that draws, in place of its draws.
Starts = Sequence[Mapping[str, Any]]

GRACE_FRACTION = 1 / 9
REDUCTION_FACTOR = 3


class Draw:
    """Uniform draws for `Space.suggest`: uniform in the logarithm where a parameter is log."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Draw a number."""
        if log:
            return float(np.exp(self._generator.uniform(np.log(low), np.log(high))))
        return float(self._generator.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Draw a whole number."""
        if log:
            return round(self.suggest_float(name, low, high, log=True))
        return int(self._generator.integers(low, high + 1))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Draw a choice."""
        return choices[int(self._generator.integers(len(choices)))]


class RandomSearch:
    """Uniform draws, every trial at full length."""

    def __init__(self, workload: Workload, seed: int, starts: Starts = ()) -> None:
        self._space = workload.space
        self._draw = Draw(np.random.default_rng(seed))
        self._starts = starts

    def ask(self, number: int) -> Mapping[str, Any]:
        """Return the parameters of trial `number`."""
        if number < len(self._starts):
            return self._space.suggest(GivenValues(self._starts[number]))
        return self._space.suggest(self._draw)

    def keep(self, number: int, report: Report) -> bool:
        """Whether the trial continues after this report."""
        return True

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        """Learn how a trial ended."""
        pass


class RaySingleMetricASHA(RandomSearch):
    """`ray.tune.schedulers.AsyncHyperBandScheduler` on the first error, with random search."""

    def __init__(self, workload: Workload, seed: int, starts: Starts = ()) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler

        super().__init__(workload, seed, starts)
        np.random.seed(seed)  # the scheduler draws its bracket from NumPy's global stream
        self._scheduler = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric="error",
            mode="min",
            max_t=workload.num_epochs,
            grace_period=grace_epochs(workload),
            reduction_factor=REDUCTION_FACTOR,
        )
        self._trials: dict[int, Any] = {}

    def ask(self, number: int) -> Mapping[str, Any]:
        """Return the parameters of trial `number`."""
        # Of a Tune trial the scheduler reads the identity alone.
        self._trials[number] = SimpleNamespace(trial_id=str(number))
        self._scheduler.on_trial_add(None, self._trials[number])
        return super().ask(number)

    def keep(self, number: int, report: Report) -> bool:
        """Whether the trial continues after this report."""
        decision = self._scheduler.on_trial_result(None, self._trials[number], _result(report))
        return bool(decision != "STOP")

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        """Learn how a trial ended."""
        trial = self._trials.pop(number)
        self._scheduler.on_trial_complete(None, trial, _result(report))


class RayOptunaSearch:
    """`ray.tune.search.optuna.OptunaSearch` as it comes: TPE, every trial at full length."""

    def __init__(self, workload: Workload, seed: int, starts: Starts = ()) -> None:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._names = _names(workload)
        space = workload.space
        self._searcher = OptunaSearch(
            space=space.suggest,
            metric=self._names,
            mode=["min"] * len(self._names),
            points_to_evaluate=[dict(start) for start in starts],
            seed=seed,
        )

    def ask(self, number: int) -> Mapping[str, Any]:
        """Return the parameters of trial `number`."""
        with quiet():
            found = self._searcher.suggest(str(number))
        assert found is not None
        return found

    def keep(self, number: int, report: Report) -> bool:
        """Whether the trial continues after this report."""
        return True

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        """Learn how a trial ended."""
        result = dict(zip(self._names, report.values, strict=True))
        with quiet():
            self._searcher.on_trial_complete(str(number), result)


class SyneTuneMOASHA:
    """`syne_tune…multiobjective.moasha.MOASHA` 0.16 as it comes: random draws, all objectives.

    Its space has no conditions: every parameter is drawn, and those a method does not read are
    left out before training.
    """

    def __init__(self, workload: Workload, seed: int, starts: Starts = ()) -> None:
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        np.random.seed(seed)  # it draws from NumPy's global stream
        self._space = workload.space
        self._names = _names(workload)
        self._scheduler = MOASHA(
            config_space=_syne_tune_space(self._space),
            metrics=self._names,
            time_attr="epoch",
            max_t=workload.num_epochs,
            grace_period=grace_epochs(workload),
            reduction_factor=REDUCTION_FACTOR,
            random_seed=seed,
        )
        self._trials: dict[int, Any] = {}
        self._starts = starts

    def ask(self, number: int) -> Mapping[str, Any]:
        """Return the parameters of trial `number`."""
        self._trials[number] = SimpleNamespace(trial_id=number)
        self._scheduler.on_trial_add(self._trials[number])
        if number < len(self._starts):
            return self._space.suggest(GivenValues(self._starts[number]))
        suggestion = self._scheduler.suggest()
        assert suggestion is not None
        return self._space.suggest(GivenValues(suggestion.config or {}))

    def keep(self, number: int, report: Report) -> bool:
        """Whether the trial continues after this report."""
        decision = self._scheduler.on_trial_result(self._trials[number], self._result(report))
        return bool(decision == "CONTINUE")

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        """Learn how a trial ended."""
        trial = self._trials.pop(number)
        if complete:
            self._scheduler.on_trial_complete(trial, self._result(report))
        else:
            self._scheduler.on_trial_remove(trial)

    def _result(self, report: Report) -> dict[str, float]:
        return dict(zip(self._names, report.values, strict=True)) | {"epoch": report.epoch}


def _syne_tune_space(space: Space) -> dict[str, Any]:
    from syne_tune import config_space

    found: dict[str, Any] = {}
    for parameter in space.parameters:
        if parameter.name in space.fixed:
            found[parameter.name] = space.fixed[parameter.name]
        elif parameter.kind == "categorical":
            found[parameter.name] = config_space.choice(list(parameter.choices))
        else:
            prefix = "log" if parameter.log else ""
            draw = {"float": "uniform", "int": "randint"}[parameter.kind]
            found[parameter.name] = getattr(config_space, prefix + draw)(
                parameter.low, parameter.high
            )
    return found


def grace_epochs(workload: Workload) -> int:
    """Return how many epochs no trial is stopped in."""
    return max(1, round(GRACE_FRACTION * workload.num_epochs))


def _names(workload: Workload) -> list[str]:
    return [f"objective-{index}" for index in range(workload.num_objectives)]


def _result(report: Report) -> dict[str, float]:
    return {"epoch": report.epoch, "error": report.values[0]}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of other people's libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
