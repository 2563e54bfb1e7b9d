"""`study.json`: what a study is, how far it may go, and where its records are."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.plans.description import check_version, differences, plan_from_description
from search.plans.limits.budget import Budget
from search.plans.plan import Plan
from search.record.files.driver_lock import StudyLock
from search.record.files.study_folder import StudyFiles, again, others_than, read_json, study_files
from trainables import addresses
from trainables.addresses import without_password
from trainables.errors import UserError
from trainables.terminal.command_line import masked


@dataclass(frozen=True, kw_only=True, slots=True)
class Addresses:
    """Where a study writes; may hold passwords."""

    tracking_uri: str
    study_storage: str

    def recorded(self, files: StudyFiles) -> dict[str, str | None]:
        """Return what `study.json` says of them: no passwords, and null for the defaults."""
        uri, storage = without_password(self.tracking_uri), without_password(self.study_storage)
        found = {
            "tracking_uri": None if uri == files.default_tracking_uri else uri,
            "study_storage": None if storage == files.default_study_storage else storage,
        }
        # By which a copy knows that it is one; the defaults follow the folder.
        return found | {"directory": str(files.directory) if any(found.values()) else None}


def find_addresses(
    files: StudyFiles,
    known: Mapping[str, Any],
    *,
    tracking_uri: str | None = None,
    study_storage: str | None = None,
) -> Addresses:
    """Return where a study writes: the option, else the record, the environment, the default.

    known: its `study.json` so far, or nothing. Raises `UserError` where nobody answers or takes
    what is written, and for a copy of a study that would write to the original's databases.
    """
    default = files.default_tracking_uri
    recorded = known.get("tracking_uri") or (default if known else None)
    uri = addresses.choose(tracking_uri, "MLFLOW_TRACKING_URI", recorded, default)
    found = Addresses(tracking_uri=uri, study_storage=find_storage(files, known, study_storage))
    addresses.check_answers("--tracking-uri", uri, addresses.TRACKING_SCHEMES)
    addresses.check_two(uri, found.study_storage)
    _check_no_copy(files, known, found)
    addresses.check_writable("--tracking-uri", uri)
    addresses.check_writable("--study-storage", found.study_storage)
    return found


def _check_no_copy(files: StudyFiles, known: Mapping[str, Any], found: Addresses) -> None:
    before = Path(known.get("directory") or files.directory) / "study.json"
    where = found.recorded(files)
    shared = [name for name, at in where.items() if at and at == known.get(name)]
    if not shared or not before.is_file() or before.samefile(files.description):
        return
    if read_json(before).get("study_id") == known["study_id"]:
        named = " and ".join(f"--{name.replace('_', '-')} {where[name]}" for name in shared)
        raise UserError(
            f"{str(files.directory)!r} is a copy of the study in {str(before.parent)!r}, and would "
            f"write to {named}, which is the original's; continue the original, or move it away "
            "where this one is to take its place"
        )


def find_storage(files: StudyFiles, known: Mapping[str, Any], option: str | None = None) -> str:
    """Return the address of a study's record, as `find_addresses` does."""
    default = files.default_study_storage
    recorded = known.get("study_storage") or (default if known else None)
    address = addresses.choose(option, "DISPARSE_STUDY_STORAGE", recorded, default)
    addresses.check_answers("--study-storage", address, addresses.STUDY_SCHEMES)
    return address


@contextlib.contextmanager
def locked_study(
    storage: str, study: str, *, tracking_uri: str | None = None, study_storage: str | None = None
) -> Iterator[tuple[StudyFiles, dict[str, Any], Addresses]]:
    """Hold a study that exists: its files, its `study.json` as the last driver left it, addresses.

    Raises `UserError` where there is no such study, it has a driver at work, or nobody answers.
    """
    files, _ = description_of(storage, study)
    with StudyLock(files.directory, study):
        known = read_json(files.description)
        found = find_addresses(files, known, tracking_uri=tracking_uri, study_storage=study_storage)
        yield files, known, found


def description_of(storage: str, study: str) -> tuple[StudyFiles, dict[str, Any]]:
    """Return the files of a study that exists and its `study.json`.

    Raises `UserError` for a study that does not exist, and lists those that do; and for a folder
    that was copied or renamed, which would act on another study's record.
    """
    files = study_files(storage, study)
    if not files.exists():
        raise UserError(
            f"there is no study {study!r} in {str(files.storage)!r} "
            f"({others_than(study, files.storage)}); check the name and --storage, or start one "
            "with `search run`"
        )
    known = read_json(files.description)
    check_version(known)
    if known["name"] != study:
        raise UserError(
            f"the folder {str(files.directory)!r} must hold the study {study!r}, got "
            f"{known['name']!r}: it was copied or renamed; rename it to {known['name']!r}"
        )
    return files, known


def plan_of(storage: str, study: str) -> Plan:
    """Return the plan a study was started with; errors as of `description_of`."""
    _, known = description_of(storage, study)
    return plan_from_description(known)


def raised_budget(
    plan: Plan, known: Mapping[str, Any], more: Budget | None, until: float | None = None
) -> Plan:
    """Return the plan with the budget that `known`, its `study.json`, records, and `more`.

    After a plateau, `more` counts from what was used. until: another plateau, without more.

    Raises `UserError` for more of a grid, and for another unit than the one of the study.
    """
    budget = Budget(**known["budget"]) if known else plan.budget
    if (more is not None or until is not None) and plan.grid is not None:
        raise UserError(
            f"a study to extend must be a search, got {plan.study!r}, a grid of baselines, which "
            "is finished when all its systems are; run further ones under another --name"
        )
    if more is not None:
        if reached := known.get("plateau"):
            used = round(reached["used"]) if budget.trials is not None else reached["used"]
            budget = dataclasses.replace(budget, **{budget.unit: used})
        budget = budget.raised(more)
    elif until is not None:
        budget = dataclasses.replace(budget, plateau=until)
    return dataclasses.replace(plan, budget=budget)


def check_same_study(
    plan: Plan, known: Mapping[str, Any], files: StudyFiles, study_storage: str | None
) -> None:
    """Raise `UserError` where `known`, the study of this name, is another than `plan`.

    study_storage: as the user named it, or None for wherever the study is.
    """
    if not known:
        return
    check_version(known)
    found = differences(plan, known)
    if found:
        remedy = f"continue it as it began by `{again('resume', plan.study, files.storage)}`"
        if all(difference.startswith("own_code") for difference in found):
            remedy = "put that code back as it was (every .py file of its folder counts)"
        raise UserError(
            f"the study {plan.study!r} exists and is another one: {'; '.join(found)}; {remedy}, or "
            "give the new study another --name"
        )
    if plan.budget.to_json() not in (known["budget"], known["first_budget"]):
        budget = Budget(**known["budget"])
        command = again("extend", plan.study, files.storage)
        remedy = f"raise it by `{command} {budget.option} MORE`"
        if plan.budget.plateau != budget.plateau:
            remedy += f", end it elsewhere by `{command} --until plateau=SHARE`"
        raise UserError(
            f"the study {plan.study!r} exists with a budget of {budget.text}, got "
            f"{plan.budget.text}; {remedy}, or give the new study another --name"
        )
    recorded = known.get("study_storage") or files.default_study_storage
    if study_storage and without_password(addresses.absolute(study_storage)) != recorded:
        raise UserError(
            f"the study {plan.study!r} exists with --study-storage {recorded}, got "
            f"{masked(study_storage)}; leave the option out, or give the new study another --name"
        )
