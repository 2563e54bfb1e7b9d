"""A plan says what a study will do, with the user's wishes applied to its recipe."""

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.plans.grid import Grid
from search.plans.limits.budget import Budget
from search.plans.limits.constraints import Constraints
from search.plans.prior_settings import PriorSettings
from search.plans.recipe import Recipe
from search.plans.rung_settings import RungSettings
from spaces.presets import trial_config
from spaces.space import Space
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.registry.lookup import METHOD

TARGET = "sparsity.target"
STEPS, PRETRAINING = "training.steps", "training.pretrain_steps"
# What a study's defaults do not fix: each trial's own, or the place of the data.
_NO_DEFAULT = ("method", "seed", "data.root")
# And what follows from others, drawn ones among them.
_DERIVED = (PRETRAINING, "training.reference_steps")


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Describes a trial that the study begins with.

    pins: parameters that are fixed rather than drawn. params: values in place of draws.
    seed: the trial's; None where the ledger gives one.
    reference: trained to its end and compared with, whatever it costs and the constraints say.
    """

    pins: Mapping[str, Any]
    params: Mapping[str, Any]
    seed: int | None = None
    reference: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Holds what is fixed for the life of a study, its budget aside.

    tasks: short names. task_references: the same as they were named; import paths of own ones.
    rungs: where the scheduler compares trials; None runs every trial to its end.
    pins: typed values by dotted name, from the recipe's settings and `--set`.
    grid: the trials of `search baselines`, whose `training.steps` among the pins is the budget
      of every one of them, pre-training included; None where a sampler draws them.
    warm_start: the studies whose trials the sampler begins with.
    prior: where good settings are thought to be.
    restored: by method, the settings that the presets had when the study began, where they differ.
    """

    study: str
    recipe: Recipe
    budget: Budget
    seed: int
    sampler: str
    rungs: RungSettings | None
    constraints: Constraints
    objectives: tuple[str, ...]
    tasks: tuple[str, ...]
    task_references: tuple[str, ...]
    data_root: str | None
    pins: Mapping[str, Any]
    space: Space
    grid: Grid | None = None
    warm_start: tuple[str, ...] = ()
    prior: PriorSettings = field(default_factory=PriorSettings)
    restored: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method that a trial of the study may have, each once."""
        if self.grid is not None:
            return self.grid.methods
        pinned = [str(self.pins["method"])] if "method" in self.pins else []
        return tuple(dict.fromkeys((*pinned, *self.recipe.references, *self.recipe.methods)))

    def config(self, params: Mapping[str, Any], seed: int) -> TrialConfig:
        """Return the trial that draws `params`. Raises `UserError` for values that do not fit."""
        drawn = {**self.pins, **params}
        name = str(drawn.pop("method"))
        method = METHOD.find(name)
        if not method.has_target:
            drawn.pop(TARGET, None)
        values = {**self.restored.get(name, {}), **drawn}
        no_pretraining = self.grid is not None and not method.needs_pretraining
        if no_pretraining:
            values.pop(PRETRAINING, None)
        config = trial_config(
            name,
            self.recipe.dataset,
            self.recipe.preset,
            tasks=self.task_references,
            seed=seed,
            root=self.data_root,
            total_steps=None if self.grid is None else values.pop(STEPS),
            overrides=values,
        )
        # As it is recorded: the two add up to the budget of every system.
        return config.replace({PRETRAINING: 0}) if no_pretraining else config

    def defaults(self) -> dict[str, dict[str, Any]]:
        """Return, by method, the flat configuration of a trial that draws nothing.

        A method that refuses the study's pins is left out.
        """
        found = {}
        for method in self.methods:
            if (config := self._accepted({"method": method}, self.seed)) is not None:
                found[method] = {n: v for n, v in config.flat().items() if n not in _NO_DEFAULT}
        return found

    def with_defaults(self, known: Mapping[str, Mapping[str, Any]]) -> "Plan":
        """Return this plan with the defaults that a study began with, as `defaults` gave them."""
        ignored = (*_DERIVED, STEPS) if self.grid is not None else _DERIVED
        found = {}
        for method, ours in self.defaults().items():
            theirs = {n: v for n, v in known.get(method, {}).items() if n not in ignored}
            changed = {n: v for n, v in theirs.items() if n in ours and ours[n] != v}
            if changed:
                found[method] = changed
        return dataclasses.replace(self, restored=found)

    def baseline_config(self, config: TrialConfig) -> TrialConfig | None:
        """Return the dense trial that `config` is compared with, of its seed.

        None where the study trains no dense model. In a grid, its first variant of `dense`.
        """
        if self.grid is not None:
            params = self.grid.dense_params()
        else:
            trained = "dense" in self.recipe.references and "method" not in self.pins
            params = {"method": "dense"} if trained else None
        return None if params is None else self._accepted(params, config.seed)

    def sample_config(self) -> TrialConfig:
        """Return a trial whose data and model are the study's."""
        first = {"method": self.recipe.methods[0]} if self.grid is None else self.grid.params()[0]
        return self.config(first, self.seed)

    def starts(self) -> tuple[Start, ...]:
        """Return the trials that the study begins with; of a grid, all of them.

        A search begins with the references, with the presets' settings of every method at
        sparsities from low to high, and with the sparsest and the densest flagship.
        """
        if self.grid is not None:
            return tuple(
                Start(pins=params, params={}, seed=seed, reference=True)
                for params, seed in self.grid.cells()
            )
        pinned = "method" in self.pins
        own = (str(self.pins["method"]),) if pinned else self.recipe.methods
        starts = []
        for method in () if pinned else self.recipe.references:
            pins = {"method": method}
            params = self._known(self.space.pinned(pins), method, 0.0)
            starts.append(Start(pins=pins, params=params, reference=True))
        target = self.space.parameter(TARGET)
        low, high = (target.low or 0.0, target.high or 0.0) if target else (0.0, 0.0)
        # Spread, so that the front has many places from the beginning.
        wanted = [(m, low + (high - low) * ((i + 0.5) / len(own))) for i, m in enumerate(own)]
        if target and any(METHOD.find(method).has_target for method in own):
            sparse = [method for method in own if METHOD.find(method).has_target]
            best = self.recipe.flagship if self.recipe.flagship in sparse else sparse[-1]
            wanted += [(best, high), (best, low)]
        for method, sparsity in wanted:
            params = self._known(self.space, method, sparsity)
            starts.append(Start(pins={}, params=params if pinned else params | {"method": method}))
        return tuple(starts[: self.budget.trials])

    def _accepted(self, params: Mapping[str, Any], seed: int) -> TrialConfig | None:
        with contextlib.suppress(UserError):
            return self.config(params, seed)
        return None

    def _known(self, space: Space, method: str, sparsity: float) -> dict[str, Any]:
        """Return the presets' point of a method at that sparsity, or the nearest in the space."""
        flat = self.config({"method": method}, self.seed).flat()
        target = space.parameter(TARGET)
        if target is not None and METHOD.find(method).has_target:
            flat[TARGET] = min(max(sparsity, target.low or 0.0), target.high or 1.0)
        return space.known(flat)
