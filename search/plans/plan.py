"""A plan: what a study will do, with the user's wishes applied to its recipe."""

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.plans.budget import Budget
from search.plans.constraints import Constraints
from search.plans.grid import Grid
from search.plans.recipe import Recipe
from search.plans.rung_settings import RungSettings
from spaces.budgets import PRETRAINED_METHODS
from spaces.presets import DENSE_METHODS, trial_config
from spaces.space import Space
from trainables.config import TrialConfig
from trainables.errors import UserError

TARGET = "sparsity.target"
# What a study's defaults do not fix: each trial's own, or the place of the data.
_NO_DEFAULT = ("method", "seed", "data.root")
_LENGTHS = ("training.steps", "training.pretrain_steps", "training.reference_steps")


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A trial that the study begins with.

    pins: parameters that are fixed rather than drawn (a reference's method).
    params: values handed to the sampler as its first draws.
    seed: the trial's; None where the ledger gives one.
    reference: trained to its end and compared with, whatever it costs and the constraints say.
    """

    pins: Mapping[str, Any]
    params: Mapping[str, Any]
    seed: int | None = None
    reference: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is fixed for the life of a study; equal plans make equal studies.

    budget: when the study is finished. Everything else stays as it is when that is raised.
    warm_start: the studies whose trials the sampler begins with, see `search.record.warm_start`.
    tasks: short names. task_references: the same as they were named; import paths of own ones.
    rungs: where the scheduler compares trials; None runs every trial to its end.
    pins: typed values by dotted name, from the recipe's settings and `--set`.
    grid: the trials of `search baselines`, whose `training.steps` among the pins is the budget
      of every one of them, pre-training included; None where a sampler draws them.
    restored: by method, settings by dotted name in which the presets differ from what they were
      when the study began. The study keeps its own.
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
    restored: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method that a trial of the study may have, each once."""
        if self.grid is not None:
            return self.grid.methods
        pinned = (str(self.pins["method"]),) if "method" in self.pins else ()
        return tuple(dict.fromkeys((*pinned, *self.recipe.references, *self.recipe.methods)))

    def config(self, params: Mapping[str, Any], seed: int) -> TrialConfig:
        """Return the trial that draws `params`. Raises `UserError` for values that do not fit."""
        values = {**self.pins, **params}
        method = str(values.pop("method"))
        if method in DENSE_METHODS:
            values.pop(TARGET, None)
        values = {**self.restored.get(method, {}), **values}
        total_steps = None
        if self.grid is not None:
            total_steps = values.pop("training.steps")
            if method not in PRETRAINED_METHODS:
                values.pop("training.pretrain_steps", None)
        config = trial_config(
            method,
            self.recipe.dataset,
            self.recipe.preset,
            tasks=self.task_references,
            seed=seed,
            root=self.data_root,
            total_steps=total_steps,
            overrides=values,
        )
        if self.grid is not None and method not in PRETRAINED_METHODS:
            # As it is recorded: the two add up to the budget of every system.
            config = config.replace({"training.pretrain_steps": 0})
        return config

    def defaults(self) -> dict[str, dict[str, Any]]:
        """Return, by method, the flat configuration of a trial that draws nothing.

        The study's pins are in it; the seed and the place of the data are not. A method that
        refuses the pins is left out.
        """
        found = {}
        for method in self.methods:
            with contextlib.suppress(UserError):
                flat = self.config({"method": method}, self.seed).flat()
                found[method] = {n: v for n, v in flat.items() if n not in _NO_DEFAULT}
        return found

    def with_defaults(self, known: Mapping[str, Mapping[str, Any]]) -> "Plan":
        """Return this plan with the defaults that a study began with, as `defaults` gave them."""
        ignored = _LENGTHS if self.grid is not None else ()
        found = {}
        for method, ours in self.defaults().items():
            theirs = known.get(method, {})
            changed = {
                name: theirs[name]
                for name, value in ours.items()
                if name in theirs and theirs[name] != value and name not in ignored
            }
            if changed:
                found[method] = changed
        return dataclasses.replace(self, restored=found)

    def baseline_config(self, config: TrialConfig) -> TrialConfig | None:
        """Return the dense trial that `config` is compared with, of its seed.

        None where the study trains no dense model, or its dense settings are refused: the trials
        then do without the comparison. For a dense trial itself, what it is given (or in a grid
        with several variants of `dense`, the first of them).
        """
        params: Mapping[str, Any] | None = {"method": "dense"}
        if self.grid is not None:
            params = self.grid.dense_params()
        elif "method" in self.pins or "dense" not in self.recipe.references:
            params = None
        if params is None:
            return None
        try:
            return self.config(params, config.seed)
        except UserError:
            return None

    def sample_config(self) -> TrialConfig:
        """Return a trial whose data and model are the study's. Raises `UserError` without one."""
        if self.grid is not None:
            for cell in self.grid.cells():
                with contextlib.suppress(UserError):
                    return self.config(cell.params, cell.seed)
        return self.config({"method": self.recipe.methods[0]}, self.seed)

    def starts(self) -> tuple[Start, ...]:
        """Return the trials that the study begins with.

        Of a grid these are all its trials. A search begins with the references, with the presets'
        known-good settings of every method at sparsities from low to high, and with each
        objective's extreme as far as it is known: the sparsest and the densest flagship.
        """
        if self.grid is not None:
            return tuple(
                Start(pins=c.params, params={}, seed=c.seed, reference=True)
                for c in self.grid.cells()
            )
        pinned = "method" in self.pins
        references = () if pinned else self.recipe.references
        own = (str(self.pins["method"]),) if pinned else self.recipe.methods
        starts = []
        for method in references:
            space = self.space.pinned({"method": method})
            params = self._known(space, method, 0.0)
            starts.append(Start(pins={"method": method}, params=params, reference=True))
        target = self.space.parameter(TARGET)
        if all(method in DENSE_METHODS for method in own):
            target = None  # nothing to spread
        low, high = (
            (0.0, 0.0) if target is None else (float(target.low or 0), float(target.high or 0))
        )
        # Spread, so that the front has many places from the beginning.
        places = [(index + 0.5) / len(own) for index in range(len(own))]
        wanted = [(m, low + (high - low) * place) for m, place in zip(own, places, strict=True)]
        if target is not None and own:
            best = self.recipe.flagship if self.recipe.flagship in own else own[-1]
            wanted += [(best, high), (best, low)]
        for method, sparsity in wanted:
            params = self._known(self.space, method, sparsity)
            params |= {} if pinned else {"method": method}
            starts.append(Start(pins={}, params=params))
        return tuple(starts[: self.budget.trials])

    def _known(self, space: Space, method: str, sparsity: float) -> dict[str, Any]:
        """The presets' point of a method at that sparsity, or as near to it as the space goes."""
        flat = self.config({"method": method}, self.seed).flat()
        target = space.parameter(TARGET)
        if method not in DENSE_METHODS and target is not None:
            low, high = float(target.low or 0), float(target.high or 1)
            flat[TARGET] = min(max(sparsity, low), high)
        return space.known(flat)
