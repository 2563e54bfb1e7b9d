"""How a study stands, read from its files without touching them."""

from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.plans.description import plan_of
from search.record.addresses import STUDY_SCHEMES, check_answers, choose, local_file, scrubbed
from search.record.driver_lock import is_driven
from search.record.ledger import FINISHED, load_trials
from search.record.storage import open_storage
from search.record.study_folder import StudyFiles, read_json_lines, study_files
from search.record.trials_table import num_recorded
from trainables.command_line import masked
from trainables.errors import UserError
from trainables.report import STATUSES


def study_status(storage: str, study: str) -> dict[str, Any]:
    """Counts by status, the front's size, and whether a driver is at work.

    Raises `UserError` for a study that does not exist or whose storage does not answer.
    """
    plan, known = plan_of(storage, study)
    files = study_files(storage, study)
    counts = dict.fromkeys((*STATUSES, "running"), 0)
    front = 0
    storage_url = choose(
        None, "DISPARSE_STUDY_STORAGE", known.get("study_storage"), files.default_study_storage
    )
    check_answers("--study-storage", storage_url, STUDY_SCHEMES)
    database = local_file(storage_url)
    missing = database is not None and not database.exists()
    if missing:  # opening it would make an empty one
        recorded = num_recorded(files.trials)
        if recorded:
            raise UserError(
                f"the study storage {masked(storage_url)!r} must exist, got no such file, though "
                f"{str(files.trials)!r} records {recorded} trials; restore it from a backup"
            )
    try:
        if missing:
            raise KeyError(study)
        loaded = optuna.load_study(study_name=study, storage=open_storage(storage_url))
        trials = load_trials(loaded)
        front = len(loaded.best_trials)
    except KeyError:  # a driver died before the first trial was recorded
        trials = []
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the study storage {masked(storage_url)!r} does not answer "
            f"({scrubbed(str(error), storage_url)}); start it"
        ) from None
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            counts["running"] += 1
        elif trial.state in FINISHED:
            counts[trial.user_attrs.get("status", "failed")] += 1
    finished = sum(counts[name] for name in STATUSES)
    metric = plan.budget.metric
    used = finished if metric is None else sum(_reported(files, t, metric) for t in trials)
    return {
        "study": study,
        "recipe": known["recipe"],
        "trials": known["budget"].get("trials"),
        "budget": known["budget"],
        "used": used,
        "finished": finished,
        "counts": counts,
        "front": front,
        "driven": is_driven(files.lock),
        "directory": str(files.directory),
        "tracking_uri": known["tracking_uri"],
        "study_storage": masked(storage_url),
    }


def _reported(files: StudyFiles, trial: FrozenTrial, metric: str) -> float:
    """What a trial has last said of `metric`, ended or not; 0 where it has said nothing."""
    rows = [row["metrics"] for row in read_json_lines(files.reports(trial.number))]
    metrics = trial.user_attrs.get("metrics") or (rows[-1] if rows else {})
    return float(metrics.get(metric, 0.0))
