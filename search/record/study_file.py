"""`study.json`: reading what a study is, and raising its budget. Light to import."""

import dataclasses
from typing import Any

from search.plans.budget import Budget
from search.plans.description import check_version, differences, plan_from_description
from search.plans.plan import Plan
from search.record.addresses import without_password
from search.record.driver_lock import StudyLock
from search.record.study_folder import StudyFiles, again, read_json, study_files, write_json
from trainables.command_line import masked
from trainables.errors import UserError


def plan_of(storage: str, study: str) -> tuple[Plan, dict[str, Any]]:
    """Return the plan a study was started with, and its `study.json`.

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
    check_version(known)
    return plan_from_description(known), known


def extend_budget(storage: str, study: str, more: Budget) -> Plan:
    """Raise the recorded budget of a study by `more`, and return its new plan.

    Raises `UserError` for a study that does not exist, has a driver at work, or is a grid, and
    for another unit than the one that the study counts in.
    """
    plan, _ = plan_of(storage, study)
    if plan.grid is not None:
        raise UserError(
            f"a study to extend must be a search, got {study!r}, a grid of baselines, which is "
            "finished when all its systems are; run further ones under another --name"
        )
    files = study_files(storage, study)
    with StudyLock(files.directory, study):
        _, known = plan_of(storage, study)  # as the last driver left it
        budget = Budget.from_json(known["budget"]).raised(more)
        write_json(files.description, known | {"budget": budget.to_json(), "finished": False})
    return dataclasses.replace(plan, budget=budget)


def check_same_study(
    plan: Plan, known: dict[str, Any], files: StudyFiles, study_storage: str | None
) -> None:
    """Raise `UserError` where `known`, the study of this name, is another than `plan`.

    study_storage: as the user named it (absolute), or None for wherever the study is.
    """
    if not known:
        return
    found = differences(plan, known)
    if found:
        further = " (and --seed, for further seeds)" if found[0].startswith("seeds ") else ""
        raise UserError(
            f"the study {plan.study!r} exists and is another one: {'; '.join(found)}; continue "
            f"it as it began by `{again('resume', plan.study, files.storage)}`, or give the new "
            f"study another --name{further}"
        )
    if plan.budget.to_json() not in (known["budget"], known["first_budget"]):
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
