"""`search sync`: project a study's record into MLflow once. A second time changes nothing."""

from dataclasses import dataclass
from typing import Any

from search.record.files.study_file import locked_study
from search.record.files.study_folder import write_json
from search.record.files.trials_table import num_recorded, write_trials
from search.record.storage import StudyRecord
from search.record.study_status import check_record
from search.tracking.connection import open_client
from search.tracking.projection import Away, Projection
from trainables.addresses import refused, scrubbed
from trainables.errors import Failure
from trainables.terminal.command_line import masked


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncEnd:
    """What a synchronisation did.

    trials: in the record. changes: writes that were made. refused: writes that MLflow refused, for
    `reason`. tracking_uri: without a password. wrote_table: whether trials.parquet lacked trials.
    """

    trials: int
    changes: int
    refused: int
    reason: str
    tracking_uri: str
    wrote_table: bool


def sync_study(storage: str, study: str, **addresses: str | None) -> SyncEnd:
    """Bring MLflow level with the record, which stays as it is.

    addresses: `tracking_uri` and `study_storage`, where they are not the recorded ones; the
      former is the study's from now on.

    Raises as `locked_study` does, and `Failure` where MLflow goes away meanwhile.
    """
    with locked_study(storage, study, **addresses) as (files, known, found):
        uri = found.tracking_uri
        record = StudyRecord.load(found.study_storage, study, known["study_id"])
        check_record(files, known, record.num_trials(), found.study_storage)
        ended = [trial for trial in record.trials() if trial.state.is_finished()]
        # It is gone, or a driver was killed before it wrote it. It may also know of an end that the
        # record lost with its host's power: that trial runs once more.
        wrote_table = num_recorded(files.trials, files.study) < len(ended)
        if wrote_table:
            record.flush()  # a table that knew of more would keep the study from resuming
            write_trials(files.trials, study, ended)
        try:
            with files.projecting():
                try:
                    client, experiment = open_client(uri, files.artifacts)
                    projection = Projection(client, experiment, files, record, thorough=True)
                except Exception as error:
                    raise refused("--tracking-uri", uri, error) from None
                where: dict[str, Any] = found.recorded(files)
                where["parent_run_id"] = projection.parent_run_id
                if known | where != known:
                    write_json(files.description, known | where)
                projection.close(finished=bool(known.get("finished")))
        except Away as error:
            raise Failure(
                f"MLflow at {masked(uri)} went away ({scrubbed(str(error), uri)}); run the same "
                "command again"
            ) from error
    return SyncEnd(
        trials=len(record.trials()),
        changes=projection.num_changes,
        refused=projection.num_refused,
        reason=scrubbed(projection.problem, uri),
        tracking_uri=masked(uri),
        wrote_table=wrote_table,
    )
