"""How a study stands, read from its record without touching it."""

from typing import Any

from search.record.addresses import STUDY_SCHEMES, check_answers, choose, local_file
from search.record.driver_lock import is_driven
from search.record.ledger import FINISHED, front_of
from search.record.storage import StudyRecord
from search.record.study_file import plan_of
from search.record.study_folder import read_json_lines, study_files
from search.record.trials_table import num_recorded
from trainables.command_line import masked
from trainables.errors import UserError
from trainables.report import STATUSES


def study_status(storage: str, study: str) -> dict[str, Any]:
    """Return counts by status, the front's size, and whether a driver is at work.

    Raises `UserError` for a study that does not exist or whose storage does not answer.
    """
    plan, known = plan_of(storage, study)
    files = study_files(storage, study)
    address = choose(
        None,
        "DISPARSE_STUDY_STORAGE",
        known.get("study_storage") or files.default_study_storage,
        files.default_study_storage,
    )
    check_answers("--study-storage", address, STUDY_SCHEMES)
    database = local_file(address)
    if database is None or database.exists():
        trials = StudyRecord.load(address, study).trials()
    else:  # a driver died before the first trial was recorded; opening would make a new file
        recorded = num_recorded(files.trials)
        if recorded:
            raise UserError(
                f"the study storage {masked(address)!r} must exist, got no such file, though "
                f"{str(files.trials)!r} records {recorded} trials; restore it from a backup"
            )
        trials = []
    counts = dict.fromkeys((*STATUSES, "running"), 0)
    used: dict[int, float] = {}
    for trial in trials:
        ended = trial.state in FINISHED
        counts[trial.user_attrs.get("status", "failed") if ended else "running"] += 1
        if plan.budget.metric is None:
            used[trial.number] = float(ended)
        else:  # what it has last said, ended or not
            rows = [row["metrics"] for row in read_json_lines(files.reports(trial.number))]
            metrics = trial.user_attrs.get("metrics") or (rows[-1] if rows else {})
            used[trial.number] = float(metrics.get(plan.budget.metric, 0.0))
    return {
        "study": study,
        "recipe": known["recipe"],
        "trials": known["budget"].get("trials"),
        "budget": known["budget"],
        "used": sum(used.values()),
        "finished": sum(counts[name] for name in STATUSES),
        "counts": counts,
        "front": len(front_of(trials, plan.objectives)),
        "driven": is_driven(files.directory),
        "directory": str(files.directory),
        "tracking_uri": known["tracking_uri"],
        "study_storage": masked(address),
    }
