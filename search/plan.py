"""A recipe with the user's wishes applied: what a study will do, before anything runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.files import check_study_name
from search.recipes import Recipe
from spaces.catalogue import build_space
from spaces.presets import trial_config
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
# Known to `trainables.report`, but no trial of a study reports it.
_UNMEASURED_COST = "cost/latency_ms"

SAMPLERS = ("tpe", "nsga2", "nsga3", "gp", "random")


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A trial the study begins with.

    pins: parameters that are fixed rather than drawn (a reference's method).
    params: values handed to the sampler as its first draws.
    """

    pins: Mapping[str, Any]
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is fixed for the life of a study; equal plans make equal studies.

    pins: typed values by dotted name, from the recipe's settings and `--set`.
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

    def config(self, params: Mapping[str, Any], seed: int) -> TrialConfig:
        """The trial that draws `params`. Raises `UserError` for values that do not fit."""
        values = {**self.pins, **params}
        method = str(values.pop("method"))
        if method == "dense":
            values.pop("sparsity.target", None)
        return trial_config(
            method,
            self.recipe.dataset,
            self.recipe.preset,
            tasks=self.tasks,
            seed=seed,
            root=self.data_root,
            overrides=values,
        )

    def starts(self) -> tuple[Start, ...]:
        """The references, then the presets' known-good point of every method."""
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
        if method != "dense" and "sparsity.target" not in self.pins:
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
    overrides: Mapping[str, str] | None = None,
) -> Plan:
    """Apply the command line to a recipe.

    Raises `UserError` for an unknown override or sampler, a value that does not fit, a cost that
    no trial measures, a study name that could not be a folder, or fewer than one trial.
    """
    name = study or recipe.name
    check_study_name(name)
    sampler = sampler or recipe.sampler
    if sampler not in SAMPLERS:
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
    pins = _typed(reference, wanted)
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
        space=build_space(recipe.space, scaled, methods).pinned(pins),
    )
    plan.starts()  # an override that no method accepts is a mistake to hear of now
    return plan


def parse_overrides(items: Sequence[str]) -> dict[str, str]:
    """`["sparsity.target=0.9"]` → `{"sparsity.target": "0.9"}`."""
    return parse_settings(items, form="name=value", example="sparsity.target=0.9")


def _tasks(value: str | Iterable[str]) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def _typed(reference: TrialConfig, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`wanted` with every value in its field's type."""
    flat = reference.flat()
    for name in wanted:
        if name in _ELSEWHERE:
            raise UserError(
                f"`--set {name}=…` cannot be used, got {wanted[name]!r}; {_ELSEWHERE[name]}"
            )
        if name not in flat:
            valid = (set(flat) - set(_ELSEWHERE)) | {_COST_OVERRIDE}
            raise unknown_name("override", name, valid)
    typed = reference.replace(wanted).flat()
    return {name: typed[name] for name in wanted}
