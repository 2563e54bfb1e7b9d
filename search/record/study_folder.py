"""Where a study lives, and files that are complete or absent."""

import contextlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
from optuna.trial import FrozenTrial

from search.plans.recipe import check_study_name
from trainables.command_line import write_json as write_json  # its counterpart is below
from trainables.errors import Failure, UserError

_DEFAULT_STORAGE = "runs"
_PROJECTOR_SECONDS = 60.0


class StudyFiles:
    """The folder of one study, below the storage folder that all studies share.

    launches: a folder for each, with Ray Tune's files and checkpoints. artifacts: where the
    MLflow database of the storage keeps files. dense_cache: dense runs of all studies.
    """

    def __init__(self, *, storage: Path, study: str) -> None:
        self.storage = storage
        self.study = study
        self.directory = storage / study
        self.description = self.directory / "study.json"
        self.trials = self.directory / "trials.parquet"
        self.warm_start = self.directory / "warm_start.json"
        self.launches = self.directory / "ray"
        self.default_study_storage = f"journal:///{self.directory / 'optuna.journal'}"
        self.default_tracking_uri = f"sqlite:///{storage / 'mlflow.db'}"
        self.artifacts = storage / "mlartifacts"
        self.dense_cache = storage / ".dense"

    def trial(self, number: int) -> Path:
        """Return a trial's folder."""
        return self.directory / "trials" / f"{number:05d}"

    def model(self, number: int) -> Path:
        """Return the file of a trial's trained model."""
        return self.trial(number) / "model.pt"

    def reports(self, number: int) -> Path:
        """Return the file of a trial's reports, one line for each."""
        return self.trial(number) / "reports.jsonl"

    @contextlib.contextmanager
    def projecting(self) -> Iterator[None]:
        """Hold the lock of whoever writes to MLflow: two would make every run twice.

        The projector of a driver that was killed holds it for some seconds more; `Failure` is
        raised where it does not end.
        """
        path = self.directory / "tracking.lock"
        try:
            with filelock.FileLock(path, timeout=_PROJECTOR_SECONDS, fallback_to_soft=False):
                yield
        except filelock.Timeout:
            raise Failure(
                "the projector of an earlier driver does not end; run the same command again"
            ) from None

    def exists(self) -> bool:
        """Return whether there is such a study."""
        return self.description.is_file()


def study_files(storage: str, study: str) -> StudyFiles:
    """Return a study's files. Raises `UserError` for a storage or a name that cannot be one."""
    check_study_name(study)
    if "://" in storage or "?" in storage:  # in a database's address a path ends at a '?'
        raise UserError(
            f"`--storage` must be a folder, without a '?', got {storage!r}; a cluster shares one "
            "by a network file system"
        )
    return StudyFiles(storage=Path(storage).expanduser().absolute(), study=study)


def again(command: str, study: str, storage: Path | str) -> str:
    """Return the command to recommend to somebody who keeps studies in `storage`."""
    shown = os.path.relpath(storage) if Path(storage).is_relative_to(Path.cwd()) else str(storage)
    option = "" if shown == _DEFAULT_STORAGE else f" --storage {shlex.quote(shown)}"
    return f"python -m search {command} {study}{option}"


def read_json(path: Path) -> dict[str, Any]:
    """Return one JSON object. Raises `UserError` for a missing or damaged file."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(f"there is no {str(path)!r}; check the name and --storage") from None
    except ValueError as error:
        raise UserError(
            f"{str(path)!r} must hold one JSON object ({error}); restore it from a backup"
        ) from None


def append_json_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one line; one cut short by a crash is closed first, and ignored when read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if end := file.seek(0, os.SEEK_END):
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(values).encode() + b"\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file; none where there is no such file."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(dict(json.loads(line)))
        except ValueError:
            continue
    return rows


def past_reports(
    files: StudyFiles, trials: Sequence[FrozenTrial]
) -> list[tuple[FrozenTrial, dict[str, float]]]:
    """Return trials and metrics of all reports on disk, in the order they came."""
    reports = [
        (row["at"], trial.number, trial, row["metrics"])
        for trial in trials
        for row in read_json_lines(files.reports(trial.number))
    ]
    reports.sort(key=lambda report: report[:2])
    return [(trial, metrics) for _, _, trial, metrics in reports]
