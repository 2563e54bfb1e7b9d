"""Makes the plan of `search baselines`: every system under one protocol and one budget.

The budget is the recipe's `training.steps` for every system; methods that start from a trained
model spend a part of it on pre-training (`spaces.presets.trial_config`, `total_steps`).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.plans.grid import Grid, System
from search.plans.limits.budget import Budget
from search.plans.plan import PRETRAINING, TARGET, Plan
from search.plans.recipe import Recipe, make_importable
from search.plans.resolve import STRUCTURE, make_plan
from trainables.errors import UserError
from trainables.registry.lookup import METHOD
from trainables.registry.methods import METHODS
from trainables.registry.structures import CHANNEL, WEIGHT, group_sizes, structure_kind

Settings = Mapping[str, Sequence[Mapping[str, Any]]]  # variants by method

SPARSITIES = (0.3, 0.5, 0.7, 0.9)  # of the papers' tables, and between
NUM_SEEDS = 5
_SHARED = ("method", "seed", TARGET, "data.", "metrics", "training.")


def make_baselines_plan(
    recipe: Recipe,
    *,
    study: str | None = None,
    methods: Sequence[str] | None = None,
    sparsities: Sequence[float] | None = None,
    seeds: int = NUM_SEEDS,
    seed: int = 0,
    settings: Settings | None = None,
    data_root: str | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan of a grid of systems x sparsities x seeds on a recipe's data.

    methods: None for every method of the catalogue that can run there, in the same structure.
    sparsities: None for `SPARSITIES`, or for the one that N:M sets.
    seeds: how many; `seed` is the first.
    settings: of one method alone; with several variants each is a system of the grid.

    Raises `UserError` for a mistake in any of them.
    """
    make_importable(recipe.folder)
    settings = settings or {}
    structure = (overrides or {}).get(STRUCTURE) or recipe.settings.get(STRUCTURE, WEIGHT)
    chosen = tuple(_comparable(str(structure)) if methods is None else methods)
    sizes = group_sizes(str(structure))
    if sparsities is None:
        sparsities = SPARSITIES if sizes is None else (1 - sizes[0] / sizes[1],)
    described = {method: METHOD.find(method) for method in (*chosen, *settings)}
    _check_lists(chosen, sparsities, seeds)
    grid = Grid(
        systems=tuple(System(method=m, sparse=described[m].has_target) for m in chosen),
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
    systems: list[System] = []
    refusals = []
    for system in grid.systems:
        # Where `--set` asks for another network, methods that bring their own are left out.
        brings_model = "model.name" in described[system.method].defaults
        if methods is None and "model.name" in plan.pins and brings_model:
            continue
        try:
            systems += _variants(plan, system, settings.get(system.method, ({},)))
        except UserError as error:
            if methods is not None or system.method in settings:
                raise
            refusals.append(error)  # it cannot run there
    if not systems:
        raise refusals[0]
    sparse = any(system.sparse for system in systems)
    grid = dataclasses.replace(
        grid, systems=tuple(systems), sparsities=grid.sparsities if sparse else ()
    )
    return dataclasses.replace(plan, grid=grid, budget=Budget(trials=len(grid.cells())))


def _comparable(structure: str) -> list[str]:
    """Return the dense systems and the methods that have a structure, e.g. "2:4"."""
    kind = structure_kind(structure)
    return [
        name
        for name, method in METHODS.items()
        if not method.has_target
        or kind in method.structures
        or (method.scales and kind == CHANNEL)  # what channels have to beat
    ]


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


def _variants(plan: Plan, system: System, variants: Sequence[Mapping[str, Any]]) -> list[System]:
    """Return a system for each of its settings, with every value in its field's type."""
    assert plan.grid is not None
    found = []
    for own in variants:
        for name in own:
            moves = name == PRETRAINING and METHOD.find(system.method).needs_pretraining
            if name.startswith(_SHARED) and not moves:  # pre-training leaves the budget's size
                raise UserError(
                    f"`--settings` of {system.method} cannot hold {name}, which all systems "
                    "share; use --set, or an option such as --sparsities"
                )
        params: dict[str, Any] = {"method": system.method, **own}
        if system.sparse:
            params[TARGET] = plan.grid.sparsities[-1]
        flat = plan.config(params, plan.seed).flat()
        variant = dataclasses.replace(system, settings={name: flat[name] for name in own})
        if variant in found:
            raise UserError(
                f"the variants of {system.method} in `--settings` must differ, got {dict(own)} "
                "twice; name it once"
            )
        found.append(variant)
    return found


def read_settings(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Return the settings in a file: a JSON object of one set, or a list of sets, by method.

    Raises `UserError` for anything else; what the names and values mean is not looked at.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        variants = {m: own if isinstance(own, list) else [own] for m, own in found.items()}
        if all(sets and all(isinstance(own, dict) for own in sets) for sets in variants.values()):
            return variants
        said = f"got {found}"
    except OSError as error:
        raise UserError(
            f"`--settings` must be a file to read, got {str(path)!r} ({error.strerror})"
        ) from None
    except (ValueError, AttributeError) as error:
        said = str(error)
    raise UserError(
        f'`--settings` must hold {{"METHOD": {{"dotted.name": value}}}} or a list of such '
        f"settings; {str(path)!r}: {said}"
    )
