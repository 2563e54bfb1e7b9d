"""Makes the plan of `search baselines`: every system under one protocol and one budget.

The budget is the recipe's `training.steps` for every system; methods that start from a trained
model spend a part of it on pre-training (`spaces.presets.trial_config`, `total_steps`).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.plans.budget import Budget
from search.plans.grid import Grid, System
from search.plans.plan import PRETRAINING, STEPS, TARGET, Plan
from search.plans.recipe import Recipe, make_importable
from search.plans.resolve import make_plan
from spaces.presets import trial_config, without_effect
from trainables.coercion import whole_number
from trainables.errors import UserError
from trainables.registry.lookup import METHOD
from trainables.registry.methods import METHODS

Settings = Mapping[str, Sequence[Mapping[str, Any]]]  # variants by method

SPARSITIES = (0.3, 0.5, 0.7, 0.9)  # of the papers' tables, and between
NUM_SEEDS = 5
# A system's own settings cannot be those that all systems share. Pre-training can: it splits a
# budget, and leaves its size.
_OF_THE_GRID = {
    "method": "use --methods",
    "seed": "use --seed and --seeds",
    TARGET: "use --sparsities",
    STEPS: "it is the budget of every system: use --set training.steps=…",
}
_SHARED = ("data.", "metrics", "training.")


def make_baselines_plan(
    recipe: Recipe,
    *,
    study: str | None = None,
    methods: Sequence[str] | None = None,
    sparsities: Sequence[float] = SPARSITIES,
    seeds: int = NUM_SEEDS,
    seed: int = 0,
    settings: Settings | None = None,
    data_root: str | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan of a grid of systems x sparsities x seeds on a recipe's data.

    methods: None for every method of the catalogue that can run there.
    seeds: how many; `seed` is the first.
    settings: of one method alone; with several variants each is a system of the grid. Those of
      methods that are not run have no effect.

    Raises `UserError` for a mistake in any of them: an unknown method or setting, a value out of
    range, a repetition. Settings that are right each for itself but that a method refuses
    together make a failed trial instead, unless no trial is left, or it is the dense one that
    all others are compared with.
    """
    make_importable(recipe.folder)
    settings = settings or {}
    chosen = tuple(METHODS if methods is None else methods)
    described = {method: METHOD.find(method) for method in (*chosen, *settings)}
    _check_lists(chosen, sparsities, seeds)
    grid = Grid(
        systems=tuple(System(method=m, sparse=described[m].sparse) for m in chosen),
        sparsities=tuple(sparsities),
        seeds=tuple(range(seed, seed + seeds)),
    )
    plan = make_plan(
        recipe,
        study=f"{recipe.name}-baselines" if study is None else study,
        seed=seed,
        data_root=data_root,
        overrides=overrides,
        grid=grid,
    )
    if PRETRAINING in plan.pins:
        _pretraining(plan, plan.pins[PRETRAINING])
    # Where `--set` asks for another network, methods that bring their own are left out.
    leave_out = methods is None and "model.name" in plan.pins
    systems = tuple(
        dataclasses.replace(system, settings=own)
        for system in grid.systems
        if not (leave_out and "model.name" in described[system.method].defaults)
        for own in _variants(plan, system, settings.get(system.method, ({},)))
    )
    sparse = any(system.sparse for system in systems)
    grid = Grid(systems=systems, sparsities=grid.sparsities if sparse else (), seeds=grid.seeds)
    plan = dataclasses.replace(plan, grid=grid, budget=Budget(trials=len(grid.cells())))
    _require_valid_trials(plan, grid)
    return plan


def parse_list(text: str, option: str) -> list[str]:
    """Return `["a", "b"]` of `"a, b"`. Raises `UserError` for a list without items."""
    items = [part.strip() for part in text.split(",") if part.strip()]
    if not items:
        raise UserError(f"`{option}` must name at least one, got {text!r}; or leave it out")
    return items


def parse_sparsities(text: str) -> list[float]:
    """Return `[0.3, 0.9]` of `"0.3,0.9"`. Raises `UserError` for what is not a number."""
    items = parse_list(text, "--sparsities")
    try:
        return list(map(float, items))
    except ValueError:
        raise UserError(
            f"`--sparsities` must be numbers, got {text!r}; e.g. --sparsities 0.3,0.9"
        ) from None


def _check_lists(methods: Sequence[str], sparsities: Sequence[float], seeds: int) -> None:
    if not sparsities:
        raise UserError("`--sparsities` must name at least one, got none; e.g. 0.9")
    for sparsity in sparsities:
        if not 0 <= sparsity < 1:  # NaN too
            raise UserError(
                f"`--sparsities` must be in [0, 1), got {sparsity:g}; 0.9 keeps a tenth of the "
                "weights"
            )
    if seeds < 1:
        raise UserError(f"`--seeds` must be at least 1, got {seeds}; {NUM_SEEDS} tell noise apart")
    for option, values in {"--methods": methods, "--sparsities": sparsities}.items():
        for value in values:
            if list(values).count(value) > 1:
                raise UserError(f"`{option}` must not repeat, got {value} twice; name it once")


def _variants(
    plan: Plan, system: System, variants: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the system's settings, each set with every value in its field's type."""
    typed = [_typed(plan, system, own) for own in variants]
    for own in typed:
        if typed.count(own) > 1:
            raise UserError(
                f"the variants of {system.method} in `--settings` must differ, got {own} twice; "
                "name it once"
            )
    return typed


def _typed(plan: Plan, system: System, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by the rules of their fields; a method may still refuse them together."""
    for name, value in own.items():
        remedy = _OF_THE_GRID.get(name, "")
        if name == PRETRAINING:
            needed = METHOD.find(system.method).needs_pretraining
            remedy = "" if needed else "it has no pre-training: leave it out"
        elif not remedy and name.startswith(_SHARED):
            remedy = "all systems share it: use --set, or the option that is named so"
        if remedy:
            raise UserError(
                f"`--settings` of {system.method} cannot hold {name}, got {value!r}; {remedy}"
            )
    params: dict[str, Any] = {"method": system.method}
    if system.sparse and plan.grid is not None:
        params[TARGET] = plan.grid.sparsities[-1]
    try:
        flat = plan.config({**params, **own}, plan.seed).flat()
        return {name: flat[name] for name in own}
    except UserError:
        # Either one of them is wrong, which raises here, or they do not go together.
        recipe = plan.recipe
        base = trial_config("dense", recipe.dataset, recipe.preset, tasks=plan.task_references)
        return {
            name: _pretraining(plan, value)
            if name == PRETRAINING
            else base.replace({name: value}).flat()[name]
            for name, value in own.items()
        }


def _pretraining(plan: Plan, value: Any) -> int:
    """Return steps of pre-training that leave some of the budget for training."""
    number, total = whole_number(PRETRAINING, value), plan.pins[STEPS]
    if not 1 <= number < total:
        raise UserError(
            f"`{PRETRAINING}` must leave some of the {total} steps for training, got {number}; "
            "lower it, or raise training.steps"
        )
    return number


def _require_valid_trials(plan: Plan, grid: Grid) -> None:
    """Raise `UserError` where every trial is refused, or the one that others are compared with."""
    refusals = []
    for params in grid.params():
        try:
            plan.config(params, plan.seed)
        except UserError as error:
            refusals.append((params, error))
    if len(refusals) == len(grid.params()):
        raise refusals[0][1]  # then it is no method's own
    for params, refusal in refusals:
        if params == grid.dense_params():
            own = {name: value for name, value in params.items() if name != "method"}
            raise UserError(
                "the dense trial that every system is compared with must be a valid one, got "
                f"`--settings` of dense {own} ({refusal}); change them, or leave dense out of "
                "--methods"
            )


def ignored(plan: Plan, settings: Settings) -> list[str]:
    """Return what of `--settings` has no effect, a line each: a mistake perhaps, but no error."""
    assert plan.grid is not None
    lines = [f"{m} is not among the systems" for m in settings if m not in plan.grid.methods]
    for params in plan.grid.params():
        try:
            config = plan.config(params, plan.seed)
        except UserError:  # the trial fails and says why
            continue
        own = [name for name in params if name not in ("method", TARGET)]
        lines += [f"{config.method} does not read {n}" for n in without_effect(config, own)]
    return list(dict.fromkeys(lines))


def read_settings(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Return the settings in a file: a JSON object of one set, or a list of sets, by method.

    `{"snip": {"optimiser.learning_rate": 0.001}, "rigl": [{"regrowth.fraction": 0.3},
    {"regrowth.fraction": 0.5}]}`. Raises `UserError` for anything else; what the names and
    values mean is not looked at.
    """
    try:
        found = json.loads(Path(path).read_text())
        if not isinstance(found, dict):
            raise ValueError(f"holds {type(found).__name__}")
        variants = {m: own if isinstance(own, list) else [own] for m, own in found.items()}
        for method, sets in variants.items():
            if not sets or not all(isinstance(own, dict) for own in sets):
                raise ValueError(f"{method}: {json.dumps(found[method])}")
    except OSError as error:
        raise UserError(
            f"`--settings` must be a file to read, got {str(path)!r} ({error.strerror})"
        ) from None
    except ValueError as error:
        raise UserError(
            f'`--settings` must hold {{"METHOD": {{"dotted.name": value}}}} or a list of such '
            f"settings, got {str(path)!r} ({error})"
        ) from None
    return variants
