"""`study.json`: what a study is. Light to import: `status` and `resume` read it first."""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping
from typing import Any

from search.plans.budget import Budget
from search.plans.grid import Grid, difference
from search.plans.plan import Plan, make_plan
from search.plans.recipe import get_recipe
from search.record.addresses import without_password
from search.record.driver_lock import StudyLock
from search.record.study_folder import StudyFiles, again, read_json, study_files, write_json
from search.schedulers.rungs import RungSettings
from trainables.command_line import masked
from trainables.errors import UserError

_DESCRIPTION_VERSION = 2
# What must be the same for two descriptions to be of one study. Not `data_root`: data that was
# moved is the same data, and the stores' checksums guard their content.
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
)


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
    _check_version(known, files)
    grid, rungs = known.get("grid"), known["scheduler"]
    # Its full length is no setting: all of training.
    scheduling = {n: str(v) for n, v in (rungs or {}).items() if n != "maximum"}
    plan = make_plan(
        get_recipe(known["recipe"]),
        study=study,
        **known["budget"],
        seed=known["seed"],
        sampler=known["sampler"],
        scheduler="none" if rungs is None else "pareto-asha",
        data_root=known["data_root"],
        overrides={
            **known["settings"],
            **{f"scheduler.{name}": text for name, text in scheduling.items()},
            **{f"constraint.{name}": text for name, text in known["constraints"].items()},
            "data.tasks": ",".join(known["tasks"]),
            "objective.cost": known["objectives"][-1],
        },
        grid=None if grid is None else Grid.from_json(grid),
        warm_start=known["warm_start"],
    )
    return plan, known


def extend_budget(storage: str, study: str, more: Budget) -> Plan:
    """Record that a study is to go on for `more` than its budget, and return its new plan.

    Raises `UserError` for a study that does not exist, is being driven, or is a grid, and for
    another unit than the one that the study counts in.
    """
    plan, _ = plan_of(storage, study)
    if plan.grid is not None:
        raise UserError(
            f"a study to extend must be a search, got {study!r}, a grid of baselines, which is "
            "finished when all its systems are; run further ones under another --name"
        )
    with StudyLock(study_files(storage, study).directory, study):
        _, known = plan_of(storage, study)  # as the last driver left it
        budget = Budget.from_json(known["budget"]).raised(more)
        write_json(study_files(storage, study).description, known | {"budget": budget.to_json()})
    return dataclasses.replace(plan, budget=budget)


def _check_version(known: Mapping[str, Any], files: StudyFiles) -> None:
    if known.get("version") != _DESCRIPTION_VERSION:
        raise UserError(
            f"{str(files.description)!r} must be of version {_DESCRIPTION_VERSION}, got "
            f"{known.get('version')}; go on with the release that began the study, or give a new "
            "one another --name"
        )


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
        "constraints": plan.constraints.to_json(),
        "budget": plan.budget.to_json(),
        # What `search run` was asked for; `search extend` raises the budget alone.
        "first_budget": known.get("first_budget") or plan.budget.to_json(),
        "seed": plan.seed,
        "sampler": plan.sampler,
        "scheduler": None if plan.rungs is None else plan.rungs.to_json(),
        "warm_start": list(plan.warm_start),
        "settings": dict(plan.pins),
        "grid": None if plan.grid is None else plan.grid.to_json(),
        "data_root": plan.data_root,
        "created": known.get("created", created),
        # Tells this study from an earlier one of the name that MLflow still remembers.
        "study_id": known.get("study_id") or uuid.uuid4().hex,
    }


def with_recorded_rungs(plan: Plan, known: Mapping[str, Any]) -> Plan:
    """The plan of a study that exists: where its command names no rungs, it goes on with those it
    began with, whatever the defaults are by now."""
    recorded = known.get("scheduler")
    if not recorded or plan.rungs != RungSettings():
        return plan
    return dataclasses.replace(plan, rungs=RungSettings(**recorded))


def check_same_study(
    plan: Plan, known: Mapping[str, Any], files: StudyFiles, study_storage: str | None
) -> None:
    """Raises `UserError` where `known`, the study of this name, is another than `plan`.

    study_storage: as the user named it (absolute), or None for wherever the study is.
    """
    if not known:
        return
    _check_version(known, files)
    ours = describe_study(plan, known)
    differing = [
        (name, repr(known.get(name)), repr(ours[name]))
        for name in _IDENTITY
        if known.get(name) != ours[name]
    ]
    of_grids = difference(known.get("grid"), plan.grid)
    if of_grids is not None:
        differing.insert(0, of_grids)  # tells more than that the sampler or seed is another
    if differing:
        name, theirs, mine = differing[0]
        further = " (and --seed, for further seeds)" if name == "seeds" else ""
        raise UserError(
            f"the study {plan.study!r} exists with {name}={theirs}, got {mine}; go on with it by "
            f"`{again('resume', plan.study, files.storage)}`, or give the new study another --name"
            f"{further}"
        )
    budget = plan.budget.to_json()
    if budget not in (known["budget"], known["first_budget"]):
        raise UserError(
            f"the study {plan.study!r} exists with a budget of "
            f"{Budget.from_json(known['budget']).text}, got {plan.budget.text}; raise it by "
            f"`{again('extend', plan.study, files.storage)}`, or give the new study another --name"
        )
    recorded = known.get("study_storage") or files.default_study_storage
    if study_storage is not None and without_password(study_storage) != recorded:
        raise UserError(
            f"the study {plan.study!r} exists with --study-storage {recorded}, got "
            f"{masked(study_storage)}; leave the option out, or give the new study another --name"
        )
