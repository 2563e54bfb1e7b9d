"""How a study stands, read from its record without touching it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from search.plans.description import plan_from_description
from search.plans.limits.budget import Budget
from search.plans.limits.plateau import plateau_text
from search.plans.prior_settings import prior_text
from search.record.confirmations import confirmations_due
from search.record.files.driver_lock import is_driven
from search.record.files.study_file import description_of, find_storage
from search.record.files.study_folder import StudyFiles, past_reports
from search.record.files.trials_table import num_recorded
from search.record.front import front_of, is_confirmation
from search.record.storage import StudyRecord
from trainables.addresses import without_password
from trainables.errors import Failure, UserError
from trainables.report import STATUSES, add_recorded_tasks
from trainables.terminal.as_typed import DEFAULT_STORAGE
from trainables.terminal.command_line import masked
from trainables.terminal.plurals import counted


def study_status(storage: str, study: str, *, study_storage: str | None = None) -> dict[str, Any]:
    """Return counts by status, the front's size, and whether a driver is at work.

    `confirmations_due` is None where it is unknown.

    Raises `UserError` for a study that does not exist or whose storage does not answer.
    """
    files, known = description_of(storage, study)
    add_recorded_tasks(known["own_tasks"])
    budget = Budget(**known["budget"])
    address = find_storage(files, known, study_storage)
    record = StudyRecord.load(address, study, known["study_id"]).trials()
    check_record(files, known, len(record), address)
    trials = [trial for trial in record if not is_confirmation(trial)]
    reports = past_reports(files, trials)  # says which are damaged
    counts = _counts(trials)
    finished = len(trials) - counts["running"]
    front = front_of(trials, known["objectives"])
    used = float(finished)
    if budget.metric is not None:  # what each has last said, ended or not
        last = {trial.number: metrics for trial, metrics in reports}
        used = sum(metrics.get(budget.metric, 0.0) for metrics in last.values())
    return {
        "study": study,
        "recipe": known["recipe"],
        "trials": known["budget"].get("trials"),
        "budget": known["budget"],
        "plateau": plateau_text(reached) if (reached := known.get("plateau")) else "",
        "prior": prior_text(known.get("prior")),
        "used": used,
        "finished": finished,
        "counts": {status: counts[status] for status in (*STATUSES, "running")},
        "ended": bool(known.get("finished")),
        "front": len(front),
        "confirmations": dict(_counts([t for t in record if is_confirmation(t)])),
        "confirmations_due": _num_confirmations_due(known, record, front),
        "driven": is_driven(files.directory),
        "directory": str(files.directory),
        "tracking_uri": known.get("tracking_uri") or files.default_tracking_uri,
        "study_storage": masked(address),
    }


def all_studies(storage: str) -> dict[str, str]:
    """Return a line about each study of a storage folder, by name; a damaged one says so.

    Raises `UserError` for a folder that does not exist, unless it is the default one.
    """
    said, where = {}, Path(storage).expanduser()
    if storage != DEFAULT_STORAGE and not where.is_dir():
        raise UserError(f"`--storage` must be a folder that exists, got {storage!r}; correct it")
    for folder in sorted(where.glob("*/")):
        try:
            if not (folder / "study.json").is_file():
                continue
            found = study_status(storage, folder.name)
        except (UserError, Failure, OSError) as error:  # as of another user's
            said[folder.name] = f"{folder.name}: {error}"
            continue
        counts = counts_in_words(found["counts"], driven=found["driven"])
        budget = Budget(**found["budget"]).text
        said[folder.name] = (
            f"{folder.name} ({found['recipe']}): {counts or 'no trial yet'}; used "
            f"{found['used']:g} of {budget}; {found['front']} on the front"
            f"{f'; {due} to go' if (due := _due_in_words(found['confirmations_due'])) else ''}"
            f"{'; a driver is at work' if found['driven'] else ''}"
        )
    return said


def _num_confirmations_due(
    known: Mapping[str, Any], record: Sequence[FrozenTrial], front: Sequence[int]
) -> int | None:
    """Return how many confirmations are to end or to begin, as far as is known now.

    None where that cannot be told, as without the study's own modules.
    """
    if not known.get("confirm"):
        return 0
    try:
        plan = plan_from_description(known)
        used = plan.budget.amount
        due, _ = confirmations_due(plan, record, front, known["confirm"], used=used)
    except UserError:  # `search resume` says why
        return None
    return len(due) + sum(is_confirmation(t) and not t.state.is_finished() for t in record)


def _due_in_words(due: int | None) -> str:
    if due is None:
        return "an unknown number of confirmations"
    return counted(due, "confirmation") if due else ""


def counts_in_words(counts: Mapping[str, int], *, driven: bool) -> str:
    """Return `3 complete, 1 running`; without a driver nothing is running, but interrupted."""
    words = {} if driven else {"running": "interrupted"}
    return ", ".join(f"{n} {words.get(status, status)}" for status, n in counts.items() if n)


def _counts(trials: Sequence[FrozenTrial]) -> Counter[str]:
    return Counter(
        trial.user_attrs.get("status", "failed") if trial.state.is_finished() else "running"
        for trial in trials
    )


def check_record(
    files: StudyFiles, known: Mapping[str, Any], num_trials: int, study_storage: str
) -> None:
    """Raise `UserError` where the study storage is not the one this folder was written from.

    num_trials: how many the storage holds.
    """
    where = without_password(study_storage)
    if not known and num_trials:
        raise UserError(
            f"a new study needs a name of its own, but {where!r} holds {num_trials} trials of "
            f"{files.study!r} that {str(files.description)!r} does not describe; give it another "
            "--name, or restore that file"
        )
    # A trial whose end was lost with its host's power runs once more; a trial is not invented.
    recorded = num_recorded(files.trials, files.study)
    if num_trials < recorded:
        raise UserError(
            f"the study storage must hold what {str(files.trials)!r} records, {recorded} trials, "
            f"but {where!r} holds {num_trials}; restore it, or start again under another --name"
        )
