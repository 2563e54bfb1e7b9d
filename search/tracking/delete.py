"""`search delete`: a study's folder, its record and its runs in MLflow."""

import shutil
from collections.abc import Callable

import optuna

from search.record.files.study_file import locked_study
from search.record.files.study_folder import StudyFiles
from search.record.storage import StudyRecord, open_storage
from search.tracking.connection import EXPERIMENT, open_client
from search.tracking.run_content import TAG_STUDY_ID
from trainables.addresses import first_line, scrubbed
from trainables.errors import Failure, UserError
from trainables.terminal.command_line import masked


def delete_study(
    storage: str,
    study: str,
    *,
    ask: Callable[[str], object] = lambda what: None,
    **addresses: str | None,
) -> str:
    """Delete a study and return what was deleted, in words. addresses: as of `sync_study`.

    ask: called with what would be deleted, in words; what it raises keeps everything.

    MLflow marks its runs as deleted; `mlflow gc` removes them for good. Raises as `locked_study`
    does, and `UserError` where something goes away: running it again deletes the rest.
    """
    with locked_study(storage, study, **addresses) as (files, known, found):
        ask(f"{files.directory}, its record, and its runs at {masked(found.tracking_uri)}")
        try:
            with files.projecting():
                num_runs = _delete_runs(found.tracking_uri, files, str(known["study_id"]))
                if found.study_storage != files.default_study_storage:
                    _delete_record(found.study_storage, study, str(known["study_id"]))
        except (UserError, Failure):
            raise
        except Exception as error:
            said = scrubbed(scrubbed(first_line(error), found.tracking_uri), found.study_storage)
            raise UserError(
                f"MLflow and the study storage of {study!r} must answer to be deleted, got: "
                f"{said}; start them, then run the same command again"
            ) from None
        shutil.rmtree(files.directory)
    return f"deleted {files.directory} and {num_runs} runs in MLflow"


def _delete_runs(uri: str, files: StudyFiles, study_id: str) -> int:
    client, experiment = open_client(uri, files.artifacts)
    put_aside = client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT} at %'")
    experiments = [experiment, *(each.experiment_id for each in put_aside)]
    num_runs = 0
    while runs := client.search_runs(experiments, f"tags.`{TAG_STUDY_ID}` = '{study_id}'"):
        for run in runs:
            client.delete_run(run.info.run_id)
        num_runs += len(runs)
    return num_runs


def _delete_record(address: str, study: str, study_id: str) -> None:
    """Delete a study from a shared storage; one that is gone already is deleted."""
    storage = open_storage(address)
    if study in optuna.get_all_study_names(storage):
        StudyRecord.load(address, study, study_id)  # refuses another study of the name
        optuna.delete_study(study_name=study, storage=storage)
