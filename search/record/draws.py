"""Draws a study's own trials, and tells the sampler how they go. Confirmations are none of them."""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import BaseTrial, FrozenTrial, TrialState

from search.plans.objective_values import ending_objectives
from search.plans.plan import Plan
from search.record.warm_start import WarmTrial
from search.samplers.prior import Prior
from search.samplers.trial_sampler import TrialSampler
from trainables.errors import UserError


def sampler_of(plan: Plan, prior: Prior | None = None) -> TrialSampler:
    """Return the sampler that a plan asks for, which knows of no trial yet."""
    return TrialSampler(
        num_objectives=len(plan.objectives),
        sampler=plan.sampler,
        seed=plan.seed,
        num_startup_trials=plan.recipe.num_startup_trials,
        prior=prior,
    )


class Draws:
    """Draws trials from the study's starts, then from its sampler. One per driver.

    The sampler knows a trial by its place among those that were drawn: confirmations, and trials
    that others added, may stand between them.

    warm: trials of other studies that the sampler is told of beforehand.
    """

    def __init__(self, plan: Plan, sampler: TrialSampler, warm: Sequence[WarmTrial] = ()) -> None:
        self._plan = plan
        self._sampler = sampler
        self._starts = plan.starts()
        self._places: dict[int, int] = {}  # by number
        self._configurations: Counter[str] = Counter()
        for number, one in enumerate(warm, start=-len(warm)):
            drawn = one.drawn_from(plan.space)
            values, violations = ending_objectives(plan, None, one.metrics)
            if drawn is not None and values is not None:
                sampler.learn(number, drawn, "complete", values, violations)

    @property
    def num_starts(self) -> int:
        """How many trials the study begins with."""
        return len(self._starts)

    def draw(self) -> tuple[BaseTrial, dict[str, Any]]:
        """Draw a trial; return it, and what it is given, for `handed_out`.

        That is without a configuration where the trial's own rules refuse it.
        """
        place = len(self._places)
        start = self._starts[place] if place < len(self._starts) else None
        pins = {} if start is None else start.pins
        space = self._plan.space.pinned(pins)
        drawn, draw = self._sampler.ask(place, space, start.params if start else None)
        params = {**pins, **drawn}  # pins of a grid are settings that its space does not hold
        seed = start.seed if start is not None else None
        if seed is None:
            # All trials share the study's seed, so that they differ by their configuration alone;
            # the same configuration again becomes a replicate under the next seed.
            seed = self._plan.seed + self._configurations[_key(params)]
        reference = start is not None and start.reference
        given: dict[str, Any] = {"params": params, "seed": seed, "reference": reference}
        with contextlib.suppress(UserError):  # said when the trial is recorded
            given["config"] = self._plan.config(params, seed).to_dict()
        return draw, given

    def handed_out(self, trial: FrozenTrial) -> None:
        """Note that a drawn trial has got its number."""
        self._places[trial.number] = len(self._places)
        self._configurations[_key(trial.user_attrs["params"])] += 1

    def recall(self, trial: FrozenTrial) -> None:
        """Take a drawn trial of an earlier driver into account."""
        self.handed_out(trial)
        place = self._places[trial.number]
        if trial.state.is_finished():
            told = told_of(self._plan, trial)
            self._sampler.learn(place, trial, trial.user_attrs["status"], *told)
        else:
            self._sampler.resume(place, trial)

    def reported(self, trial: FrozenTrial, fraction: float, metrics: Mapping[str, float]) -> None:
        """Have the sampler learn from a report."""
        config = trial.user_attrs.get("config")
        values, violations = ending_objectives(self._plan, config, metrics)
        if values is not None and fraction > 0:
            self._sampler.report(self._places[trial.number], fraction, values, violations)

    def ended(self, trial: FrozenTrial) -> None:
        """Have the sampler learn from an end."""
        told = told_of(self._plan, trial)
        self._sampler.tell(self._places[trial.number], trial.user_attrs["status"], *told)

    def worth_finishing(self, trial: FrozenTrial, fraction: float) -> bool:
        """Return whether a trial at work is worth what is left of it, as `TrialSampler` does."""
        place = self._places[trial.number]
        return self._sampler.worth_finishing(place, self._plan.space, fraction)

    def further_gain(self, num_trials: int) -> float | None:
        """Return what so many more trials would add to the hypervolume, as `TrialSampler` does."""
        return self._sampler.further_gain(self._plan.space, num_trials)


def told_of(plan: Plan, trial: FrozenTrial) -> tuple[list[float] | None, dict[str, float]]:
    """Return an ended trial's objectives, minimised, and its violations, as samplers take them."""
    # The costs of a complete trial are final.
    config = None if trial.state == TrialState.COMPLETE else trial.user_attrs.get("config")
    return ending_objectives(plan, config, trial.user_attrs["metrics"])


def _key(params: Mapping[str, Any]) -> str:
    return json.dumps(dict(params), sort_keys=True)
