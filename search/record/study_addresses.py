"""Where a study's record and its MLflow are, and whether the record is the one it should be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.record.addresses import (
    STUDY_SCHEMES,
    TRACKING_SCHEMES,
    absolute,
    check_answers,
    choose,
    without_password,
)
from search.record.study_folder import StudyFiles
from search.record.trials_table import num_recorded
from trainables.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Addresses:
    """Where a study writes; may hold passwords."""

    tracking_uri: str
    study_storage: str

    def recorded(self, files: StudyFiles) -> dict[str, str | None]:
        """Return what `study.json` says of them.

        Without passwords, and null for a database in the study's own folder, wherever that is.
        """
        own = self.study_storage == files.default_study_storage
        return {
            "tracking_uri": without_password(self.tracking_uri),
            "study_storage": None if own else without_password(self.study_storage),
        }


def find_addresses(
    files: StudyFiles,
    known: Mapping[str, Any],
    *,
    tracking_uri: str | None = None,
    study_storage: str | None = None,
) -> Addresses:
    """Return where a study writes: the option, else the record, the environment, the default.

    known: the study's `study.json` so far, or nothing. Raises `UserError` where nobody answers.
    """
    addresses = Addresses(
        tracking_uri=choose(
            tracking_uri,
            "MLFLOW_TRACKING_URI",
            known.get("tracking_uri"),
            files.default_tracking_uri,
        ),
        study_storage=choose(
            study_storage and absolute(study_storage),
            "DISPARSE_STUDY_STORAGE",
            known.get("study_storage") or (files.default_study_storage if known else None),
            files.default_study_storage,
        ),
    )
    check_answers("--tracking-uri", addresses.tracking_uri, TRACKING_SCHEMES)
    check_answers("--study-storage", addresses.study_storage, STUDY_SCHEMES)
    return addresses


def check_record(
    files: StudyFiles, known: Mapping[str, Any], num_trials: int, addresses: Addresses
) -> None:
    """Raise `UserError` where the study storage is not the one this folder was written from.

    num_trials: how many the storage holds.
    """
    where = without_password(addresses.study_storage)
    if not known and num_trials:
        raise UserError(
            f"a new study needs a name of its own, but {where!r} holds {num_trials} trials of "
            f"{files.study!r} that {str(files.description)!r} does not describe; give it another "
            "--name, or restore that file"
        )
    # A trial whose end was lost with its host's power runs once more; a trial is not invented.
    recorded = num_recorded(files.trials)
    if num_trials < recorded:
        raise UserError(
            f"the study storage must hold what {str(files.trials)!r} records, {recorded} trials, "
            f"but {where!r} holds {num_trials}; restore it, or start again under another --name"
        )
