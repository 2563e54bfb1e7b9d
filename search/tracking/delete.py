"""`search delete`: a study's folder, its record and its runs in MLflow."""

import shutil

import optuna

from search.record.storage import open_storage
from search.record.study_file import locked_study, plan_of
from search.record.study_folder import StudyFiles, study_files
from search.tracking.connection import open_client
from search.tracking.run_content import TAG_STUDY_ID
from trainables.addresses import first_line
from trainables.errors import UserError


def describe_deletion(storage: str, study: str) -> str:
    """Return in words what `delete_study` would delete. Raises `UserError` without a study."""
    _, known = plan_of(storage, study)
    files = study_files(storage, study)
    return f"{files.directory}, its record, and its runs at {known['tracking_uri']}"


def delete_study(storage: str, study: str, **addresses: str | None) -> str:
    """Delete a study and return what was deleted, in words. addresses: as of `sync_study`.

    MLflow marks its runs as deleted, as its own interface does; `mlflow gc` removes them for good.
    Raises `UserError` for a study that does not exist or has a driver at work, and where its
    storage or MLflow does not answer; nothing is deleted then.
    """
    with locked_study(storage, study, **addresses) as (files, known, found):
        try:
            with files.projecting():
                num_runs = _delete_runs(found.tracking_uri, files, str(known["study_id"]))
                if found.study_storage != files.default_study_storage:
                    record = open_storage(found.study_storage)
                    optuna.delete_study(study_name=study, storage=record)
        except Exception as error:
            raise UserError(
                f"the records of {study!r} must answer to be deleted, got {first_line(error)}; "
                "start them, then run the same command again"
            ) from None
        shutil.rmtree(files.directory)
    return f"deleted {files.directory} and {num_runs} runs in MLflow"


def _delete_runs(uri: str, files: StudyFiles, study_id: str) -> int:
    client, experiment = open_client(uri, files.artifacts)
    num_runs = 0
    while runs := client.search_runs([experiment], f"tags.`{TAG_STUDY_ID}` = '{study_id}'"):
        for run in runs:
            client.delete_run(run.info.run_id)
        num_runs += len(runs)
    return num_runs
