"""What `search baselines` will run: every system under one protocol and one budget.

The budget is the recipe's `training.steps` for every system; methods that start from a trained
model spend a part of it on pre-training (`spaces.presets.trial_config`, `total_steps`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from search.plans.budget import Budget
from search.plans.grid import Grid, System
from search.plans.grid_settings import Settings
from search.plans.plan import Plan
from search.plans.recipe import Recipe
from search.plans.resolve import make_plan
from spaces.budgets import PRETRAINED_METHODS
from spaces.presets import trial_config
from trainables.coercion import whole_number
from trainables.errors import UserError

SPARSITIES = (0.3, 0.5, 0.7, 0.9)  # of the papers' tables, and between
NUM_SEEDS = 5
# A system's own settings cannot be those that all systems share.
_OF_THE_GRID = {
    "method": "use --methods",
    "seed": "use --seed and --seeds",
    "sparsity.target": "use --sparsities",
    "training.steps": "it is the budget of every system: use --set training.steps=…",
}
_SHARED = ("data.", "metrics", "training.")
_PRETRAINING = "training.pretrain_steps"  # not shared: it splits a budget, and leaves its size


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
    """The grid of systems x sparsities x seeds on a recipe's data.

    methods: None for every method of the catalogue that can run there.
    seeds: how many; `seed` is the first.
    settings: of one method alone; with several variants each is a system of the grid. Those of
      methods that are not run have no effect.

    Raises `UserError` for a mistake in any of them: an unknown method or setting, a value out of
    range, a repetition. Settings that are right each for itself but that a method refuses
    together make a failed trial instead, unless no trial is left, or it is the dense one that
    all others are compared with.
    """
    chosen = _methods(methods)
    settings = settings or {}
    for method in settings:
        _require_method(method)
    _check_sparsities(sparsities)
    if seeds < 1:
        raise UserError(f"`--seeds` must be at least 1, got {seeds}; {NUM_SEEDS} tell noise apart")
    grid = Grid(
        systems=tuple(System(method=m, sparse=_is_sparse(m)) for m in chosen),
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
    if _PRETRAINING in plan.pins:
        _pretraining(plan, plan.pins[_PRETRAINING])
    if methods is None:
        systems = tuple(s for s in grid.systems if _runs_on_the_model(plan, s.method))
    else:
        systems = grid.systems
    systems = tuple(
        dataclasses.replace(system, settings=own)
        for system in systems
        for own in _variants(plan, system, settings)
    )
    sparse = any(system.sparse for system in systems)
    grid = Grid(systems=systems, sparsities=grid.sparsities if sparse else (), seeds=grid.seeds)
    plan = dataclasses.replace(plan, grid=grid, budget=Budget(trials=len(grid.cells())))
    _require_a_trial(plan)
    _require_the_baseline(plan)
    return plan


def parse_list(text: str, option: str) -> list[str]:
    """`"a, b"` → `["a", "b"]`. Raises `UserError` for a list without items."""
    items = [part.strip() for part in text.split(",") if part.strip()]
    if not items:
        raise UserError(f"`{option}` must name at least one, got {text!r}; or leave it out")
    return items


def parse_sparsities(text: str) -> list[float]:
    """`"0.3,0.9"` → `[0.3, 0.9]`."""
    try:
        return [float(item) for item in parse_list(text, "--sparsities")]
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"`--sparsities` must be numbers, got {text!r}; e.g. --sparsities 0.3,0.9"
        ) from None


def _methods(named: Sequence[str] | None) -> tuple[str, ...]:
    from trainables.sparsity.catalogue import METHODS  # loads torch

    if named is None:
        return tuple(METHODS)
    for method in named:
        _require_method(method)
    _require_distinct("--methods", named)
    return tuple(named)


def _require_method(name: str) -> None:
    from trainables.sparsity.catalogue import get_method

    get_method(name)


def _is_sparse(method: str) -> bool:
    from trainables.sparsity.catalogue import get_method

    return get_method(method).sparse


def _check_sparsities(sparsities: Sequence[float]) -> None:
    if not sparsities:
        raise UserError("`--sparsities` must name at least one, got none; e.g. 0.9")
    for sparsity in sparsities:
        if not 0 <= sparsity < 1:  # NaN too
            raise UserError(
                f"`--sparsities` must be in [0, 1), got {sparsity:g}; 0.9 keeps a tenth of the "
                "weights"
            )
    _require_distinct("--sparsities", sparsities)


def _require_distinct(option: str, values: Sequence[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"`{option}` must not repeat, got {value} twice; name it once")


def _runs_on_the_model(plan: Plan, method: str) -> bool:
    """Whether the method has a network of its own while `--set` asks for another."""
    if "model.name" not in plan.pins:
        return True
    recipe = plan.recipe
    own, common = (
        trial_config(m, recipe.dataset, recipe.preset, tasks=plan.tasks).model.name
        for m in (method, "dense")
    )
    return own == common


def _variants(plan: Plan, system: System, settings: Settings) -> list[dict[str, Any]]:
    """The system's settings, each set with every value in its field's type."""
    typed = [_typed(plan, system, own) for own in settings.get(system.method, ({},))]
    for own in typed:
        if typed.count(own) > 1:
            raise UserError(
                f"the variants of {system.method} in `--settings` must differ, got {own} twice; "
                "name it once"
            )
    return typed


def _typed(plan: Plan, system: System, own: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in own.items():
        _require_own(system.method, name, value)
    params: dict[str, Any] = {"method": system.method}
    if system.sparse and plan.grid is not None:
        params["sparsity.target"] = plan.grid.sparsities[-1]
    try:
        flat = plan.config({**params, **own}, plan.seed).flat()
        return {name: flat[name] for name in own}
    except UserError:
        # Either one of them is wrong, which raises here, or they do not go together.
        return {name: _typed_alone(plan, name, value) for name, value in own.items()}


def _typed_alone(plan: Plan, name: str, value: Any) -> Any:
    """The value by the rules of its field; a method may still refuse it."""
    if name == _PRETRAINING:
        return _pretraining(plan, value)
    recipe = plan.recipe
    base = trial_config("dense", recipe.dataset, recipe.preset, tasks=plan.tasks)
    return base.replace({name: value}).flat()[name]


def _pretraining(plan: Plan, value: Any) -> int:
    """Steps of pre-training that leave some of the budget for training."""
    number, total = whole_number(_PRETRAINING, value), plan.pins["training.steps"]
    if not 1 <= number < total:
        raise UserError(
            f"`{_PRETRAINING}` must leave some of the {total} steps for training, got {number}; "
            "lower it, or raise training.steps"
        )
    return number


def _require_own(method: str, name: str, value: Any) -> None:
    """Raises `UserError` for a setting that all systems share."""
    remedy = _OF_THE_GRID.get(name, "")
    if name == _PRETRAINING:
        remedy = "" if method in PRETRAINED_METHODS else "it has no pre-training: leave it out"
    elif not remedy and name.startswith(_SHARED):
        remedy = "all systems share it: use --set, or the option that is named so"
    if remedy:
        raise UserError(f"`--settings` of {method} cannot hold {name}, got {value!r}; {remedy}")


def _require_a_trial(plan: Plan) -> None:
    """Raises the first refusal where every trial is refused: then it is no method's own."""
    assert plan.grid is not None
    refusals = []
    for cell in plan.grid.cells():
        if cell.seed != plan.seed:
            break
        try:
            plan.config(cell.params, cell.seed)
            return
        except UserError as error:
            refusals.append(error)
    raise refusals[0]


def _require_the_baseline(plan: Plan) -> None:
    """Raises `UserError` where `dense` is among the systems but its first variant is refused."""
    assert plan.grid is not None
    params = plan.grid.dense_params()
    if params is None:
        return
    try:
        plan.config(params, plan.seed)
    except UserError as error:
        own = {name: value for name, value in params.items() if name != "method"}
        if not own:
            raise
        raise UserError(
            "the dense trial that every system is compared with must be a valid one, got "
            f"`--settings` of dense {own} ({error}); change them, or leave dense out of --methods"
        ) from None
