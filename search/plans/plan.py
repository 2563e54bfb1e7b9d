"""A recipe with the user's wishes applied: what a study will do, before anything runs."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.plans.budget import Budget
from search.plans.constraints import PREFIX as CONSTRAINT_PREFIX
from search.plans.constraints import Constraints
from search.plans.grid import Grid
from search.plans.recipe import SCHEDULERS, Recipe
from search.record.addresses import without_password
from search.record.study_folder import check_study_name
from search.samplers.trial_sampler import GRID_SAMPLER, SAMPLERS
from search.schedulers.rungs import RungSettings
from spaces.budgets import PRETRAINED_METHODS
from spaces.catalogue import build_space
from spaces.presets import DENSE_METHODS, trial_config
from spaces.space import Space
from trainables.command_line import parse_settings
from trainables.config import TrialConfig
from trainables.errors import UserError, unknown_name
from trainables.report import METRICS, objective_names

_COST_OVERRIDE = "objective.cost"
_TARGET = "sparsity.target"
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

_SCHEDULER_PREFIX = "scheduler."
_ROUNDING = 1e-9
_SCHEDULER_SETTINGS: Mapping[str, Any] = {
    "grace": float,
    "reduction_factor": float,
    "brackets": int,
}
_NARROW = 1e-3  # share of a cap on density that is left free, for rounding to whole weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A trial the study begins with.

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

    budget: when the study is finished. All else stays as it is when that is raised.
    warm_start: the studies whose trials the sampler begins with, see `search.record.warm_start`.
    rungs: where the scheduler compares trials; None runs every trial to its end.
    pins: typed values by dotted name, from the recipe's settings and `--set`.
    grid: the trials of `search baselines`, whose `training.steps` among the pins is the budget
      of every one of them, pre-training included; None where a sampler draws them.
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
    data_root: str | None
    pins: Mapping[str, Any]
    space: Space
    grid: Grid | None = None
    warm_start: tuple[str, ...] = ()

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
        """Of a grid, all its trials. Else the references, the presets' known-good settings of
        every method, at sparsities from low to high, and for each objective its extreme, as far
        as it is known beforehand: the sparsest and the densest model of the flagship."""
        if self.grid is not None:
            return tuple(
                Start(pins=c.params, params={}, seed=c.seed, reference=True)
                for c in self.grid.cells()
            )
        if "method" in self.pins:
            methods: tuple[str, ...] = ()
            own: tuple[str, ...] = (str(self.pins["method"]),)
        else:
            methods, own = self.recipe.references, self.recipe.methods
        starts = []
        for method in methods:
            space = self.space.pinned({"method": method})
            params = self._known(space, method, 0.0)
            starts.append(Start(pins={"method": method}, params=params, reference=True))
        target = self.space.parameter(_TARGET)
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
            params |= {} if "method" in self.pins else {"method": method}
            starts.append(Start(pins={}, params=params))
        return tuple(starts[: self.budget.trials])

    def _known(self, space: Space, method: str, sparsity: float) -> dict[str, Any]:
        """The presets' point of a method at that sparsity, or as near to it as the space goes."""
        flat = self.config({"method": method}, self.seed).flat()
        target = space.parameter(_TARGET)
        if method not in DENSE_METHODS and target is not None:
            low, high = float(target.low or 0), float(target.high or 1)
            flat[_TARGET] = min(max(sparsity, low), high)
        return space.known(flat)


def make_plan(
    recipe: Recipe,
    *,
    study: str | None = None,
    trials: int | None = None,
    epochs: float | None = None,
    gpu_hours: float | None = None,
    seed: int = 0,
    sampler: str | None = None,
    scheduler: str | None = None,
    data_root: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    grid: Grid | None = None,
    warm_start: Sequence[str] = (),
) -> Plan:
    """Apply the command line to a recipe. A `grid` decides the trials, and takes no sampler,
    scheduler or constraints.

    trials, epochs, gpu_hours: one of them at most; the recipe's trials without.

    Raises `UserError` for an unknown override, sampler or scheduler, a value that does not fit,
    a cost that no trial measures, a constraint that no model can meet, a study name that could
    not be a folder, or a budget that is none (see `search.plans.budget`).
    """
    name = recipe.name if study is None else study
    check_study_name(name)
    if grid is not None:
        sampler, scheduler, trials = GRID_SAMPLER, "none", len(grid.cells())
    sampler = sampler or recipe.sampler
    if sampler not in (*SAMPLERS, *([GRID_SAMPLER] if grid is not None else [])):
        raise unknown_name("sampler", sampler, SAMPLERS)
    if trials is None and epochs is None and gpu_hours is None:
        trials = recipe.trials
    budget = Budget(trials=trials, epochs=epochs, gpu_hours=gpu_hours)
    scheduler = scheduler or recipe.scheduler
    if scheduler not in SCHEDULERS:
        raise unknown_name("scheduler", scheduler, SCHEDULERS)
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
    rungs = _rungs(scheduler, _taken(wanted, _SCHEDULER_PREFIX))
    constraints = Constraints.parse(_taken(wanted, CONSTRAINT_PREFIX), tasks)
    if grid is not None and constraints:
        raise UserError(
            "a grid of baselines must have no constraints, got "
            f"{', '.join(constraints.to_json())}; it runs every system: use `search run`"
        )
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
        budget=budget,
        seed=seed,
        sampler=sampler,
        rungs=rungs,
        constraints=constraints,
        objectives=objective_names(tasks, cost),
        tasks=tasks,
        data_root=data_root,
        pins=pins,
        space=_narrowed(space, constraints, pins),
        grid=grid,
        warm_start=tuple(without_password(source) for source in warm_start),
    )
    plan.starts()  # an override that no method accepts is a mistake to hear of now
    return plan


def parse_overrides(items: Sequence[str]) -> dict[str, str]:
    """`["sparsity.target=0.9"]` → `{"sparsity.target": "0.9"}`."""
    return parse_settings(items, form="name=value", example="sparsity.target=0.9")


def _taken(wanted: dict[str, Any], prefix: str) -> dict[str, str]:
    """The settings that begin with `prefix`, taken out and without it."""
    names = [name for name in wanted if name.startswith(prefix)]
    return {name.removeprefix(prefix): str(wanted.pop(name)) for name in names}


def _rungs(scheduler: str, settings: Mapping[str, str]) -> RungSettings | None:
    """`--set scheduler.NAME=…` over the defaults; None for no early stopping."""
    values = {}
    for name, text in settings.items():
        if scheduler == "none":
            raise UserError(
                f"`--set {_SCHEDULER_PREFIX}{name}=…` needs a scheduler, got none; leave it out"
            )
        if name not in _SCHEDULER_SETTINGS:
            raise unknown_name("setting of the scheduler", name, _SCHEDULER_SETTINGS)
        try:
            values[name] = _SCHEDULER_SETTINGS[name](text)
        except ValueError:
            raise UserError(
                f"`{_SCHEDULER_PREFIX}{name}` must be a number, got {text!r}; e.g. 3"
            ) from None
    return None if scheduler == "none" else RungSettings(**values)


def _narrowed(space: Space, constraints: Constraints, pins: Mapping[str, Any]) -> Space:
    """Without sparsities that a cap on density forbids: no trial is spent on them.

    Raises `UserError` where none is left.
    """
    density, sparsity = constraints.bound("cost/density"), constraints.bound("cost/sparsity")
    caps = [c for c in (density, None if sparsity is None else 1.0 - sparsity) if c is not None]
    if not caps:
        return space
    lowest = 1.0 - min(caps) * (1.0 - _NARROW)
    target = space.parameter(_TARGET)
    if pins.get("method") in DENSE_METHODS and min(caps) < 1.0:
        raise UserError(
            f"a cap on density must be one that the method can meet, got {min(caps):g} for "
            f"{pins['method']}, which is dense; choose a sparse method"
        )
    highest = pins.get(_TARGET) if target is None else target.high
    if target is None and highest is not None and 1.0 - min(caps) <= highest + _ROUNDING:
        return space
    if highest is not None and lowest > highest:
        raise UserError(
            f"a cap on density must leave some of the sparsities, got {min(caps):g} where the "
            f"highest sparsity is {highest:g}; raise the cap"
        )
    return space.narrowed(_TARGET, low=lowest)


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
            valid = (set(flat) - set(elsewhere)) | {
                _COST_OVERRIDE,
                "constraint.METRIC",
                *(f"{_SCHEDULER_PREFIX}{setting}" for setting in _SCHEDULER_SETTINGS),
            }
            raise unknown_name("override", name, valid)
    typed = reference.replace(wanted).flat()
    return {name: typed[name] for name in wanted}
