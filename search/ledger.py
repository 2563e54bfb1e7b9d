"""The study's own record of trials, over Optuna's ask and tell. No Ray here.

One Optuna trial per trial of the study, for ever: its number is the trial's identity
(`demo-00003`), its user attributes carry what a trial was given and what became of it. A driver
that died leaves its trials RUNNING; `next` hands those out first, under the same number.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.addresses import refused
from search.plan import GRID_SAMPLER, SAMPLERS, Plan
from trainables.config import TrialConfig
from trainables.errors import UserError, unknown_name
from trainables.report import describe, non_finite
from trainables.seeds import derive_seed

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_STATES = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "infeasible": TrialState.FAIL,
}
_MAX_REASON_CHARACTERS = 4000  # a reason, not a log; MLflow tags hold 8,000


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One trial to run. `params` holds the drawn values and pins, `config` everything."""

    name: str
    number: int
    params: Mapping[str, Any]
    seed: int
    config: TrialConfig
    resumed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a trial. `metrics` are the last known; `reason` is empty when complete."""

    status: str
    reason: str
    metrics: Mapping[str, float]
    fraction: float


def trial_name(study: str, number: int) -> str:
    return f"{study}-{number:05d}"


def make_sampler(name: str, seed: int, num_startup_trials: int) -> optuna.samplers.BaseSampler:
    """A multi-objective sampler. Raises `UserError` for an unknown name."""
    with _quiet():
        if name == "tpe":
            # Groups: one joint density per set of parameters that occur together, so that
            # conditional parameters are not drawn independently of their condition.
            return optuna.samplers.TPESampler(
                seed=seed,
                n_startup_trials=num_startup_trials,
                multivariate=True,
                group=True,
                constant_liar=True,
            )
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=num_startup_trials)
        if name == "nsga3":
            return optuna.samplers.NSGAIIISampler(seed=seed, population_size=num_startup_trials)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=num_startup_trials)
        if name in ("random", GRID_SAMPLER):
            return optuna.samplers.RandomSampler(seed=seed)
    raise unknown_name("sampler", name, SAMPLERS)


def open_optuna(plan: Plan, storage: str) -> optuna.Study:
    """Create or load the Optuna study. Raises `UserError` where the storage cannot be opened."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with _quiet():
            study = optuna.create_study(
                study_name=plan.study,
                storage=storage,
                directions=[describe(name).direction for name in plan.objectives],
                load_if_exists=True,
            )
            study.set_metric_names(list(plan.objectives))
    except Exception as error:
        raise refused("--study-storage", storage, error) from None
    return study


class Ledger:
    """Hands out trials and takes their outcomes. One per driver; not thread-safe.

    on_finished: called with a trial's number and outcome, after the storage has it.
    """

    def __init__(
        self,
        plan: Plan,
        study: optuna.Study,
        on_finished: Callable[[int, Outcome], None] | None = None,
    ) -> None:
        self.plan = plan
        self.study = study
        self.on_finished = on_finished
        self._live: dict[int, optuna.Trial] = {}
        self._enqueue_starts()
        self._unfinished = [t.number for t in self._trials() if t.state == TrialState.RUNNING]

    @property
    def num_asked(self) -> int:
        return sum(t.state != TrialState.WAITING for t in self._trials())

    @property
    def num_finished(self) -> int:
        return sum(t.state in FINISHED for t in self._trials())

    @property
    def num_remaining(self) -> int:
        """Trials still to hand out or to finish."""
        return max(0, self.plan.trials - self.num_finished)

    def finished(self) -> list[FrozenTrial]:
        return [t for t in self._trials() if t.state in FINISHED]

    def next(self) -> Assignment | None:
        """The next trial to run, unfinished ones first; None when all have been handed out."""
        while True:
            resumed = bool(self._unfinished)
            if resumed:
                number = self._unfinished.pop(0)
                trial = self._reopen(number)
            elif self.num_asked < self.plan.trials:
                trial = self._ask()
            else:
                return None
            try:
                return self._assign(trial, resumed)
            except UserError as error:
                # A combination of drawn values that the trial's own rules refuse.
                self._live[trial.number] = trial
                self.finish(
                    trial.number,
                    Outcome(status="failed", reason=str(error), metrics={}, fraction=0.0),
                )

    def finish(self, number: int, outcome: Outcome) -> None:
        """Tell Optuna, once; a trial that is finished already stays as it is.

        Only a complete trial's values reach the sampler. The attributes are written first: a
        driver killed in between finds the trial RUNNING and runs its end again.
        """
        trial = self._live.pop(number, None)
        if trial is None:
            return
        metrics = {k: v for k, v in outcome.metrics.items() if math.isfinite(v)}
        trial.set_user_attr("status", outcome.status)
        trial.set_user_attr("reason", outcome.reason[:_MAX_REASON_CHARACTERS])
        trial.set_user_attr("metrics", metrics)
        trial.set_user_attr("fraction", outcome.fraction)
        state = _STATES[outcome.status]
        values = None
        if state == TrialState.COMPLETE:
            values = [metrics[name] for name in self.plan.objectives]
        with _quiet():
            self.study.tell(number, values=values, state=state, skip_if_finished=True)
        if self.on_finished is not None:
            self.on_finished(number, outcome)

    def front(self) -> list[int]:
        """Numbers of the non-dominated complete trials."""
        return [trial.number for trial in self.study.best_trials]

    def note(self, number: int, key: str, value: Any) -> None:
        """Keep something about a running trial with it."""
        self._live[number].set_user_attr(key, value)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _enqueue_starts(self) -> None:
        """Queue the starting points; after a crash, only those still missing."""
        done = {t.user_attrs["start"] for t in self._trials() if "start" in t.user_attrs}
        for index, start in enumerate(self.plan.starts()):
            if index not in done:
                attributes = {"start": index, "pins": dict(start.pins)}
                if start.seed is not None:
                    attributes["seed"] = start.seed
                self.study.enqueue_trial(dict(start.params), user_attrs=attributes)

    def _use_sampler_for(self, number: int) -> None:
        """A fresh sampler seeded by the trial's number.

        Draws then depend on the seed, the number and the storage alone, so a restarted driver
        neither repeats earlier draws nor needs a saved generator.
        """
        self.study.sampler = make_sampler(
            self.plan.sampler,
            derive_seed(self.plan.seed, "sampler", number) % 2**32,
            self.plan.recipe.num_startup_trials,
        )

    def _ask(self) -> optuna.Trial:
        self._use_sampler_for(self.num_asked)
        with _quiet():
            return self.study.ask()

    def _reopen(self, number: int) -> optuna.Trial:
        self._use_sampler_for(number)
        frozen = self._trials()[number]
        with _quiet():
            return optuna.Trial(self.study, frozen._trial_id)

    def _assign(self, trial: optuna.Trial, resumed: bool) -> Assignment:
        attributes = trial.user_attrs
        if "params" in attributes:
            params, seed = dict(attributes["params"]), int(attributes["seed"])
        else:
            # A driver killed while drawing left some values; drawing again returns those.
            pins = attributes.get("pins", {})
            with _quiet():
                # Pins of a grid are settings that its space does not hold.
                params = {**pins, **self.plan.space.pinned(pins).suggest(trial)}
            seed = attributes.get("seed")
            if seed is None:
                seed = self.plan.seed + self._num_like(params)
                trial.set_user_attr("seed", seed)
            try:
                config = self.plan.config(params, seed)
            except UserError:
                trial.set_user_attr("params", params)  # the record says what was refused
                raise
            trial.set_user_attr("config", config.flat())
            trial.set_user_attr("params", params)
        config = self.plan.config(params, seed)
        self._live[trial.number] = trial
        return Assignment(
            name=trial_name(self.plan.study, trial.number),
            number=trial.number,
            params=params,
            seed=seed,
            config=config,
            resumed=resumed,
        )

    def _num_like(self, params: Mapping[str, Any]) -> int:
        """Earlier trials of the same configuration.

        All trials share the study's seed, so that they differ by their configuration alone; the
        same configuration again becomes a replicate under the next seed, not a wasted copy.
        """
        return sum(t.user_attrs.get("params") == dict(params) for t in self._trials())


def judge(
    result: Mapping[str, Any] | None, objectives: tuple[str, ...], *, error: str | None = None
) -> Outcome | None:
    """What a trial's last result amounts to; None where it says nothing final.

    Missing or non-finite objectives, a crash and an early stop are outcomes too, never
    exceptions: the study goes on.
    """
    metrics = metrics_of(result or {})
    fraction = _number((result or {}).get("training/fraction"))

    def outcome(status: str, reason: str) -> Outcome:
        return Outcome(status=status, reason=reason, metrics=metrics, fraction=fraction)

    if error is not None:
        return outcome("failed", error)
    if result is None:
        return None
    if result.get("status") == "failed":
        return outcome("failed", str(result.get("reason") or "the trial gave no reason"))
    if fraction < 1.0 - 1e-9:
        # Tune sets `done` when a scheduler stops a trial, so only its own status tells.
        if result.get("status") == "running":
            return outcome("stopped", f"stopped by the scheduler at {fraction:.0%} of training")
        return outcome("failed", f"the trial ended at {fraction:.0%} of training")
    unusable = non_finite(metrics, objectives)
    if unusable:
        said = ", ".join(f"{n}={result.get(n, 'missing')}" for n in unusable)
        return outcome("failed", f"objectives missing or not finite: {said}")
    return outcome("complete", "")


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a flat result under their contract names, and `training/…`."""
    prefixes = ("val/", "test/", "cost/", "multitask/", "training/")
    return {
        name: float(value)
        for name, value in result.items()
        if name.startswith(prefixes)
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's notes that an API is experimental: versions are pinned."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        yield
