"""Makes a plan from a recipe and the command line."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.plans.grid import Grid
from search.plans.limits.budget import Budget
from search.plans.limits.constraints import PREFIX as CONSTRAINT_PREFIX
from search.plans.limits.constraints import Constraints
from search.plans.plan import STEPS, TARGET, Plan
from search.plans.prior_settings import parse_prior
from search.plans.recipe import (
    GRID_SAMPLER,
    SAMPLERS,
    SCHEDULERS,
    Recipe,
    check_study_name,
    make_importable,
)
from search.plans.rung_settings import RungSettings
from spaces.catalogue import build_space
from spaces.presets import trial_config
from spaces.space import Space
from trainables.config import TrialConfig
from trainables.errors import UserError, unknown_name
from trainables.registry.lookup import METHOD
from trainables.report import DEPLOYMENT_COSTS, METRICS, objective_names
from trainables.terminal.command_line import parse_settings

# Settings with an option of their own; of a grid, which has options for more of them.
_ELSEWHERE = {"seed": "use --seed", "data.root": "use --data-root"}
_ELSEWHERE_IN_GRIDS = {**_ELSEWHERE, "method": "use --methods", TARGET: "use --sparsities"}
_COST = "objective.cost"
_SPREAD = "cost/latency_spread"  # says how sure another cost is, and is none to search for
_MEASURE, STRUCTURE = "deployment.measure", "sparsity.structure"
_SCHEDULER_PREFIX = "scheduler."
_SCHEDULER_SETTINGS = ("grace", "reduction_factor")
_ROUNDING = 1e-9
_NARROW = 1e-3  # share of a cap on density that is left free, for rounding to whole weights


def make_plan(
    recipe: Recipe,
    *,
    study: str | None = None,
    trials: int | None = None,
    epochs: float | None = None,
    gpu_hours: float | None = None,
    plateau: float | None = None,
    seed: int = 0,
    sampler: str | None = None,
    scheduler: str | None = None,
    data_root: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    grid: Grid | None = None,
    warm_start: Sequence[str] = (),
    prior: Sequence[str] = (),
) -> Plan:
    """Return the plan of a recipe to which the command line is applied.

    trials, epochs, gpu_hours: one of them at most; without one, the recipe's trials.
    plateau: of the budget; None for a study that uses all of it.
    grid: decides the trials, and takes no sampler, scheduler or constraints.

    Raises `UserError` for names that are not known and values that do not fit.
    """
    name = recipe.name if study is None else study
    make_importable(recipe.folder)
    check_study_name(name)
    if grid is not None:
        sampler, scheduler, trials = GRID_SAMPLER, "none", len(grid.cells())
    elif (sampler := sampler or recipe.sampler) not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    elif (scheduler := scheduler or recipe.scheduler) not in SCHEDULERS:
        raise unknown_name("scheduler", scheduler, SCHEDULERS)
    if trials is None and epochs is None and gpu_hours is None:
        trials = recipe.trials
    budget = Budget(trials=trials, epochs=epochs, gpu_hours=gpu_hours, plateau=plateau)
    if seed < 0:
        raise UserError(f"`--seed` must be at least 0, got {seed}; any whole number will do")
    if data_root is not None and "://" not in data_root:
        data_root = str(Path(data_root).expanduser().absolute())
    wanted = {**recipe.settings, **(overrides or {})}
    cost = str(wanted.pop(_COST, recipe.cost))
    if cost == _SPREAD:
        valid = (m for m in METRICS if m.startswith("cost/") and m != _SPREAD)
        raise unknown_name("cost to search for", cost, valid)
    recipe = dataclasses.replace(recipe, dataset=str(wanted.pop("data.dataset", recipe.dataset)))
    named = wanted.pop("data.tasks", recipe.tasks)
    parts = named.split(",") if isinstance(named, str) else named
    task_references = tuple(part.strip() for part in parts if part.strip())
    reference = trial_config(
        recipe.methods[0],
        recipe.dataset,
        recipe.preset,
        tasks=task_references,
        seed=seed,
        root=data_root,
        # Other defaults follow from it.
        overrides={name: wanted[name] for name in (STRUCTURE,) if name in wanted},
    )
    tasks = reference.data.tasks
    rungs = _rungs(scheduler, recipe.scheduling, _taken(wanted, _SCHEDULER_PREFIX))
    # A grid runs every system: a recipe's own bounds are for searches.
    bounds = dict(recipe.constraints) if grid is None else {}
    bounds |= _taken(wanted, CONSTRAINT_PREFIX)
    constraints = Constraints.parse(bounds, tasks)
    if {cost, *(item.metric for item in constraints.items)} & set(DEPLOYMENT_COSTS):
        wanted = {_MEASURE: True, **wanted}
    if grid is not None:
        if bounds:
            raise UserError(
                f"a grid of baselines must have no constraints, got {', '.join(bounds)}; "
                "it runs every system: use `search run`"
            )
        wanted = {STEPS: reference.training.reference_steps, **wanted}  # of a dense system
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
        task_references=task_references,
        data_root=data_root,
        pins=_typed(reference, wanted, _ELSEWHERE if grid is None else _ELSEWHERE_IN_GRIDS),
        space=Space(name=GRID_SAMPLER, doc="nothing is drawn", parameters=()),
        grid=grid,
        warm_start=tuple(warm_start),
    )
    if plan.pins.get(_MEASURE) is False and {cost, *bounds} & set(DEPLOYMENT_COSTS):
        raise UserError(
            f"`{_MEASURE}` must be true for a study of {cost} with constraints on "
            f"{', '.join(bounds) or 'nothing'}, got false; leave it out"
        )
    plan = with_space(plan)
    plan = dataclasses.replace(plan, prior=parse_prior(prior, plan.space, plan.pins))
    plan.starts()  # an override that no method accepts is a mistake to hear of now
    return plan


def with_space(plan: Plan) -> Plan:
    """Return the plan with the space that its recipe, pins, constraints and defaults leave."""
    if plan.grid is not None:
        return plan
    recipe, pins = plan.recipe, plan.pins
    methods = recipe.methods
    if "method" in pins and pins["method"] not in (*methods, *recipe.references):
        methods = (*methods, pins["method"])
    reference = plan.config({"method": recipe.methods[0]}, plan.seed)
    space = build_space(recipe.space, reference, methods).pinned(pins)
    return dataclasses.replace(plan, space=_narrowed(space, plan.constraints, pins))


def parse_overrides(items: Sequence[str]) -> dict[str, str]:
    """Return `{"sparsity.target": "0.9"}` of `["sparsity.target=0.9"]`; raise `UserError`."""
    return parse_settings(items, form="name=value", example="sparsity.target=0.9")


def _taken(wanted: dict[str, Any], prefix: str) -> dict[str, str]:
    """Take out the settings that begin with `prefix`, and return them without it."""
    names = [name for name in wanted if name.startswith(prefix)]
    return {name.removeprefix(prefix): str(wanted.pop(name)) for name in names}


def _rungs(
    scheduler: str, scheduling: Mapping[str, float], overrides: Mapping[str, str]
) -> RungSettings | None:
    """Return the recipe's rungs with `--set scheduler.NAME=…` applied; None for no scheduler."""
    if scheduler == "none":
        if overrides:
            raise UserError("`--set scheduler.…` needs a scheduler, got none; leave it out")
        return None
    values = {}
    for name, text in {**scheduling, **overrides}.items():
        if name not in _SCHEDULER_SETTINGS:
            raise unknown_name("setting of the scheduler", name, _SCHEDULER_SETTINGS)
        try:
            values[name] = float(str(text))
        except ValueError:
            raise UserError(
                f"`{_SCHEDULER_PREFIX}{name}` must be a number, got {text!r}; e.g. 3"
            ) from None
    return RungSettings(**values)


def _narrowed(space: Space, constraints: Constraints, pins: Mapping[str, Any]) -> Space:
    """Leave out sparsities that a cap on density forbids, so that no trial is spent on them.

    Raises `UserError` where none is left.
    """
    density, sparsity = constraints.bound("cost/density"), constraints.bound("cost/sparsity")
    cap = min(
        1.0 if density is None else density,
        1.0 if sparsity is None else 1.0 - sparsity,
    )
    if cap >= 1.0:
        return space
    target = space.parameter(TARGET)
    if "method" in pins and not METHOD.find(pins["method"]).sparse:
        highest: float | None = 0.0
    else:
        highest = pins.get(TARGET) if target is None else target.high
    # A pinned target has to meet the cap; a drawn one leaves room for rounding to whole weights.
    room = _ROUNDING if target is None else -_NARROW * cap
    lowest = 1.0 - cap - room
    if highest is not None and lowest > highest:
        raise UserError(
            f"a cap on density must leave some of the sparsities, got {cap:g} where the "
            f"highest sparsity is {highest:g}; raise the cap"
        )
    return space.narrowed(TARGET, low=lowest)


def _typed(
    reference: TrialConfig, wanted: Mapping[str, Any], elsewhere: Mapping[str, str]
) -> dict[str, Any]:
    """Return `wanted` with every value in its field's type."""
    flat = reference.flat()
    for name, value in wanted.items():
        if name in elsewhere:
            raise UserError(f"`--set {name}=…` cannot be used, got {value!r}; {elsewhere[name]}")
        if name not in flat:
            scheduling = (_SCHEDULER_PREFIX + setting for setting in _SCHEDULER_SETTINGS)
            valid = {*flat, _COST, "constraint.METRIC", *scheduling} - set(elsewhere)
            raise unknown_name("override", name, valid)
    typed = reference.replace(wanted).flat()
    return {name: typed[name] for name in wanted}
