"""`study.json`: what a study is. Light to import: `status` and `resume` read it first."""

import datetime
from collections.abc import Mapping
from typing import Any

from search.files import read_json, study_files
from search.plan import Plan, make_plan
from search.recipes import get_recipe
from trainables.errors import UserError

_DESCRIPTION_VERSION = 1
# What must be the same for two descriptions to be of one study.
_IDENTITY = ("recipe", "dataset", "preset", "tasks", "objectives", "seed", "sampler", "settings")


def plan_of(storage: str, study: str) -> tuple[Plan, dict[str, Any]]:
    """The plan a study was started with, from its `study.json`.

    Raises `UserError` for a study that does not exist; lists those that do.
    """
    files = study_files(storage, study)
    if not files.exists():
        others = sorted(p.parent.name for p in files.storage.glob("*/study.json"))
        there = f"it holds {', '.join(others)}" if others else "it holds none"
        raise UserError(
            f"there is no study {study!r} in {str(files.storage)!r} ({there}); "
            "check the name and --storage, or start one with `search run`"
        )
    known = read_json(files.description)
    plan = make_plan(
        get_recipe(known["recipe"]),
        study=study,
        trials=known["trials"],
        seed=known["seed"],
        sampler=known["sampler"],
        data_root=known["data_root"],
        overrides={
            **known["settings"],
            "data.tasks": ",".join(known["tasks"]),
            "objective.cost": known["objectives"][-1],
        },
    )
    return plan, known


def describe_study(plan: Plan, known: Mapping[str, Any]) -> dict[str, Any]:
    """`study.json`."""
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "version": _DESCRIPTION_VERSION,
        "name": plan.study,
        "recipe": plan.recipe.name,
        "dataset": plan.recipe.dataset,
        "preset": plan.recipe.preset,
        "tasks": list(plan.tasks),
        "objectives": list(plan.objectives),
        "trials": plan.trials,
        "seed": plan.seed,
        "sampler": plan.sampler,
        "settings": dict(plan.pins),
        "data_root": plan.data_root,
        "created": known.get("created", created),
    }


def check_same_study(plan: Plan, known: Mapping[str, Any]) -> None:
    if not known:
        return
    ours = describe_study(plan, known)
    for name in (*_IDENTITY, "trials"):
        if known.get(name) != ours[name]:
            raise UserError(
                f"the study {plan.study!r} exists with {name}={known.get(name)!r}, "
                f"got {ours[name]!r}; go on with it by `search resume {plan.study}`, or give the "
                "new study another --name"
            )
