"""Describes a study for `study.json`, and says whether two descriptions are of the same one."""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping
from typing import Any

from search.plans.grid import Grid
from search.plans.plan import Plan
from search.plans.prior_settings import PriorSettings
from search.plans.recipe import Recipe
from search.plans.resolve import make_plan, with_space
from trainables.coercion import to_plain
from trainables.config import TrialConfig, flatten
from trainables.errors import UserError
from trainables.integrity.code_digest import code_commit, digest_import
from trainables.registry.lookup import DATASET, METHOD, MODEL
from trainables.registry.methods import METHODS
from trainables.registry.tasks import TASKS, known_task

DESCRIPTION_VERSION = 5
# What must be the same for two descriptions to be of one study: neither the budget, which
# `search extend` raises, nor `data_root`, since data that was moved is the same data.
_IDENTITY = (
    "recipe",
    "dataset",
    "preset",
    "tasks",
    "objectives",
    "constraints",
    "seed",
    "sampler",
    "scheduler",
    "settings",
    "warm_start",
    "prior",
    "resolved_recipe",
    "own_tasks",
    "own_methods",
    "own_code",
    "defaults",
)
# Of a recipe, what a study does not depend on: its words, and defaults of the command line.
_FREE = ("name", "summary", "trials", "concurrency", "sampler", "scheduler", "cost", "folder")
_MAX_DIFFERENCES = 5
_NONE = type(None)
_KINDS: dict[str, type | tuple[type, ...]] = {  # of what every study.json of this version holds
    **dict.fromkeys(("name", "recipe", "dataset", "preset", "sampler", "study_id"), str),
    **dict.fromkeys(("tasks", "task_references", "own_tasks", "objectives", "warm_start"), list),
    **dict.fromkeys(("own_methods", "own_code", "constraints", "budget", "first_budget"), dict),
    **dict.fromkeys(("settings", "resolved_recipe", "defaults"), dict),
    **dict.fromkeys(("scheduler", "grid"), (dict, _NONE)),
    "data_root": (str, _NONE),
    "seed": int,
}


def describe_study(plan: Plan, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `study.json`, without addresses. known: the content so far, or {}."""
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "version": DESCRIPTION_VERSION,
        "name": plan.study,
        "recipe": plan.recipe.name,
        "dataset": plan.recipe.dataset,
        "preset": plan.recipe.preset,
        "tasks": list(plan.tasks),
        "task_references": list(plan.task_references),
        "own_tasks": [to_plain(known_task(t)) for t in plan.tasks if t not in TASKS],
        "own_methods": {m: to_plain(METHOD.find(m)) for m in plan.methods if m not in METHODS},
        "own_code": _own_code(plan),
        "objectives": list(plan.objectives),
        "constraints": plan.constraints.to_json(),
        "budget": plan.budget.to_json(),
        # What `search run` was asked for; `search extend` raises the budget alone.
        "first_budget": known.get("first_budget") or plan.budget.to_json(),
        "seed": plan.seed,
        "sampler": plan.sampler,
        "scheduler": None if plan.rungs is None else plan.rungs.to_json(),
        "warm_start": list(plan.warm_start),
        "prior": plan.prior.to_json(),
        "settings": dict(plan.pins),
        "grid": None if plan.grid is None else plan.grid.to_json(),
        "ranges": _ranges(plan),
        "data_root": plan.data_root,
        "resolved_recipe": plan.recipe.to_json(),
        "defaults": plan.defaults(),
        "created": known.get("created", created),
        "commit": known["commit"] if "commit" in known else None if known else code_commit(),
        # Tells this study from an earlier one of the name that MLflow still remembers.
        "study_id": known.get("study_id") or uuid.uuid4().hex,
    }


def _ranges(plan: Plan) -> dict[str, Any]:
    """Return what the study draws of numbers, by name: from where to where, and on which scale."""
    drawn = () if plan.grid is not None else plan.space.parameters
    return {
        p.name: {"low": p.low, "high": p.high, "log": p.log, "whole": p.kind == "int"}
        for p in drawn
        if p.name not in plan.space.fixed and p.kind != "categorical"
    }


def _own_code(plan: Plan) -> dict[str, str | None]:
    """Return digests of the user's own code by import path; comments do not count."""
    config = plan.sample_config()
    paths = [*config.data.own_tasks]
    for method in plan.methods:
        if method not in METHODS:
            paths += [METHOD.path(method), METHOD.find(method).implementation]
    if config.data.dataset not in DATASET.built_in:
        paths.append(DATASET.path(config.data.dataset))
    if config.model.name not in MODEL.built_in:
        paths.append(MODEL.path(config.model.name))
    return {path: digest_import(path) for path in sorted(set(paths))}


def plan_from_description(known: Mapping[str, Any]) -> Plan:
    """Return the plan that a study began with, whatever recipes and presets have become since."""
    grid, rungs = known["grid"], known["scheduler"]
    scheduling = {n: str(v) for n, v in (rungs or {}).items() if n != "maximum"}
    plan = make_plan(
        Recipe.from_mapping(known["resolved_recipe"], f"of the study {known['name']!r}"),
        study=known["name"],
        **known["budget"],
        seed=known["seed"],
        sampler=known["sampler"],
        scheduler="none" if rungs is None else "pareto-asha",
        data_root=known["data_root"],
        overrides={
            **known["settings"],
            **{f"scheduler.{name}": text for name, text in scheduling.items()},
            **{f"constraint.{name}": text for name, text in known["constraints"].items()},
            "data.dataset": known["dataset"],
            "data.tasks": ",".join(known["task_references"]),
            "objective.cost": known["objectives"][-1],
        },
        grid=None if grid is None else Grid.from_json(grid),
        warm_start=known["warm_start"],
    )
    prior = PriorSettings.from_json(known.get("prior"))
    return dataclasses.replace(with_space(plan.with_defaults(_defaults(known))), prior=prior)


def differences(plan: Plan, known: Mapping[str, Any]) -> list[str]:
    """Return in what `plan` is another study than `known`: `NAME was THIS, is now THAT`."""
    ours, theirs = _identity(to_plain(describe_study(plan, known))), _identity(known)
    found = [
        f"{name} was {theirs.get(name)}, is now {ours.get(name)}"
        for name in theirs | ours
        if theirs.get(name) != ours.get(name)
    ]
    # Defaults that differ because a setting does would hide it.
    found = [line for line in found if not line.startswith("defaults.")] or found
    return found[:_MAX_DIFFERENCES]


def check_version(known: Mapping[str, Any]) -> None:
    """Raise `UserError` for a `study.json` that another release wrote, or that somebody changed."""
    if not {"version", "name"} <= known.keys():
        raise UserError(
            "study.json must describe a study, got one without its version or name; restore it "
            "from a copy"
        )
    if known["version"] != DESCRIPTION_VERSION:
        raise UserError(
            f"study.json of {known.get('name')!r} must be of version {DESCRIPTION_VERSION}, got "
            f"{known.get('version')}; continue it with the release that began it"
        )
    amounts = known["budget"].values() if isinstance(known.get("budget"), dict) else ()
    wrong = [n for n, kind in _KINDS.items() if n not in known or not isinstance(known[n], kind)]
    if wrong or any(isinstance(amount, str | list | dict) for amount in amounts):
        name = (wrong or ["budget"])[0]
        raise UserError(
            f"study.json of {known['name']!r} must hold {name!r} as it was written, got "
            f"{repr(known[name])[:100] if name in known else 'no such entry'}; restore the file "
            "from a copy"
        )


def _defaults(description: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the defaults by method; settings that are younger than the study have their own."""
    younger = to_plain(TrialConfig.younger_settings())
    return {method: {**younger, **own} for method, own in description["defaults"].items()}


def _identity(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells one study from another, by dotted name."""
    grid = description["grid"]
    # A grid says more than that its sampler or its seed is another, and so comes first.
    facts = {"grid": "none"} if grid is None else Grid.from_json(grid).facts()
    counted = {name: description[name] for name in _IDENTITY if name != "prior"}
    counted["prior"] = PriorSettings.from_json(description.get("prior")).to_json()
    counted["defaults"] = _defaults(description)
    recipe = description["resolved_recipe"]
    counted["resolved_recipe"] = {k: v for k, v in recipe.items() if k not in _FREE}
    return facts | flatten(counted)
