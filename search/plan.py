"""A recipe with the user's wishes applied: what a study will do, before anything runs."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.files import check_study_name
from search.grid import Grid
from search.recipes import Recipe
from spaces.budgets import PRETRAINED_METHODS
from spaces.catalogue import build_space
from spaces.presets import DENSE_METHODS, trial_config
from spaces.space import Space
from trainables.command_line import parse_settings
from trainables.config import TrialConfig
from trainables.errors import UserError, unknown_name
from trainables.report import METRICS, objective_names

_COST_OVERRIDE = "objective.cost"
# Settings with an option of their own, or that the recipe decides.
_ELSEWHERE = {
    "seed": "use --seed",
    "data.root": "use --data-root",
    "data.dataset": "choose the recipe of that dataset",
}
# Of a grid, which has options for them.
_ELSEWHERE_IN_GRIDS = {"method": "use --methods", "sparsity.target": "use --sparsities"}
# Known to `trainables.report`, but no trial of a study reports it.
_UNMEASURED_COST = "cost/latency_ms"

SAMPLERS = ("tpe", "nsga2", "nsga3", "gp", "random")
GRID_SAMPLER = "grid"  # draws nothing: every trial of a grid is a start


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A trial the study begins with.

    pins: parameters that are fixed rather than drawn (a reference's method).
    params: values handed to the sampler as its first draws.
    seed: the trial's; None where the ledger gives one.
    """

    pins: Mapping[str, Any]
    params: Mapping[str, Any]
    seed: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is fixed for the life of a study; equal plans make equal studies.

    pins: typed values by dotted name, from the recipe's settings and `--set`.
    grid: the trials of `search baselines`, whose `training.steps` among the pins is the budget
      of every one of them, pre-training included; None where a sampler draws them.
    """

    study: str
    recipe: Recipe
    trials: int
    seed: int
    sampler: str
    objectives: tuple[str, ...]
    tasks: tuple[str, ...]
    data_root: str | None
    pins: Mapping[str, Any]
    space: Space
    grid: Grid | None = None

    def config(self, params: Mapping[str, Any], seed: int) -> TrialConfig:
        """The trial that draws `params`. Raises `UserError` for values that do not fit."""
        values = {**self.pins, **params}
        method = str(values.pop("method"))
        if method in DENSE_METHODS:
            values.pop("sparsity.target", None)
        total_steps = None
        if self.grid is not None:
            total_steps = values.pop("training.steps")
            if method not in PRETRAINED_METHODS:
                values.pop("training.pretrain_steps", None)
        config = trial_config(
            method,
            self.recipe.dataset,
            self.recipe.preset,
            tasks=self.tasks,
            seed=seed,
            root=self.data_root,
            total_steps=total_steps,
            overrides=values,
        )
        if self.grid is not None and method not in PRETRAINED_METHODS:
            # As it is recorded: the two add up to the budget of every system.
            config = config.replace({"training.pretrain_steps": 0})
        return config

    def baseline_config(self, config: TrialConfig) -> TrialConfig | None:
        """The dense trial that `config` is compared with: of its seed, with the study's settings.

        None where the study trains no dense model, or is an old one whose dense settings are
        refused: the trials go on without the comparison. For a dense trial itself, what it is
        given (or in a grid with several variants of `dense`, the first of them).
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
        """A trial whose data and model are the study's. Raises `UserError` where none fits."""
        if self.grid is not None:
            for cell in self.grid.cells():
                with contextlib.suppress(UserError):
                    return self.config(cell.params, cell.seed)
        return self.config({"method": self.recipe.methods[0]}, self.seed)

    def starts(self) -> tuple[Start, ...]:
        """The references, then the presets' known-good point of every method; of a grid, all."""
        if self.grid is not None:
            return tuple(Start(pins=c.params, params={}, seed=c.seed) for c in self.grid.cells())
        if "method" in self.pins:
            methods: tuple[str, ...] = ()
            own: tuple[str, ...] = (str(self.pins["method"]),)
        else:
            methods, own = self.recipe.references, self.recipe.methods
        starts = []
        for method in methods:
            space = self.space.pinned({"method": method})
            starts.append(Start(pins={"method": method}, params=self._known(space, method)))
        for method in own:
            params = self._known(self.space, method)
            params |= {} if "method" in self.pins else {"method": method}
            starts.append(Start(pins={}, params=params))
        return tuple(starts[: self.trials])

    def _known(self, space: Space, method: str) -> dict[str, Any]:
        flat = self.config({"method": method}, self.seed).flat()
        if method not in DENSE_METHODS and "sparsity.target" not in self.pins:
            flat["sparsity.target"] = self.recipe.initial_sparsity
        return space.known(flat)


def make_plan(
    recipe: Recipe,
    *,
    study: str | None = None,
    trials: int | None = None,
    seed: int = 0,
    sampler: str | None = None,
    data_root: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    grid: Grid | None = None,
) -> Plan:
    """Apply the command line to a recipe. A `grid` decides the trials, and takes no sampler.

    Raises `UserError` for an unknown override or sampler, a value that does not fit, a cost that
    no trial measures, a study name that could not be a folder, or fewer than one trial.
    """
    name = study or recipe.name
    check_study_name(name)
    if grid is not None:
        sampler, trials = GRID_SAMPLER, len(grid.cells())
    sampler = sampler or recipe.sampler
    if sampler not in (*SAMPLERS, *([GRID_SAMPLER] if grid is not None else [])):
        raise unknown_name("sampler", sampler, SAMPLERS)
    trials = recipe.trials if trials is None else trials
    if trials < 1:
        raise UserError(
            f"`--trials` must be at least 1, got {trials}; the recipe has {recipe.trials}"
        )
    if seed < 0:
        raise UserError(f"`--seed` must be at least 0, got {seed}; any whole number will do")
    if data_root is not None and "://" not in data_root:
        data_root = str(Path(data_root).expanduser().absolute())
    wanted = {**recipe.settings, **(overrides or {})}
    cost = str(wanted.pop(_COST_OVERRIDE, recipe.cost))
    if cost == _UNMEASURED_COST:
        valid = (m for m in METRICS if m.startswith("cost/") and m != _UNMEASURED_COST)
        raise unknown_name("cost that trials measure", cost, valid)
    tasks = _tasks(wanted.pop("data.tasks", recipe.tasks))
    reference = trial_config(
        recipe.methods[0], recipe.dataset, recipe.preset, tasks=tasks, seed=seed, root=data_root
    )
    if grid is not None:
        wanted = {"training.steps": reference.training.steps, **wanted}
    pins = _typed(reference, wanted, _ELSEWHERE | (_ELSEWHERE_IN_GRIDS if grid else {}))
    methods = recipe.methods
    if "method" in pins and pins["method"] not in (*recipe.methods, *recipe.references):
        methods = (*methods, pins["method"])
    scaled = trial_config(
        recipe.methods[0],
        recipe.dataset,
        recipe.preset,
        tasks=tasks,
        overrides={n: v for n, v in pins.items() if n != "method"},
    )
    space = (
        build_space(recipe.space, scaled, methods).pinned(pins)
        if grid is None
        else Space(name=GRID_SAMPLER, doc="nothing is drawn", parameters=())
    )
    plan = Plan(
        study=name,
        recipe=recipe,
        trials=trials,
        seed=seed,
        sampler=sampler,
        objectives=objective_names(tasks, cost),
        tasks=tasks,
        data_root=data_root,
        pins=pins,
        space=space,
        grid=grid,
    )
    plan.starts()  # an override that no method accepts is a mistake to hear of now
    return plan


def parse_overrides(items: Sequence[str]) -> dict[str, str]:
    """`["sparsity.target=0.9"]` → `{"sparsity.target": "0.9"}`."""
    return parse_settings(items, form="name=value", example="sparsity.target=0.9")


def _tasks(value: str | Iterable[str]) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def _typed(
    reference: TrialConfig, wanted: Mapping[str, Any], elsewhere: Mapping[str, str]
) -> dict[str, Any]:
    """`wanted` with every value in its field's type."""
    flat = reference.flat()
    for name in wanted:
        if name in elsewhere:
            raise UserError(
                f"`--set {name}=…` cannot be used, got {wanted[name]!r}; {elsewhere[name]}"
            )
        if name not in flat:
            valid = (set(flat) - set(elsewhere)) | {_COST_OVERRIDE}
            raise unknown_name("override", name, valid)
    typed = reference.replace(wanted).flat()
    return {name: typed[name] for name in wanted}
