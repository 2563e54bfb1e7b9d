"""Where a study lives, and files that are complete or absent."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.plans.names import check_study_name
from trainables.errors import UserError

_DEFAULT_STORAGE = "runs"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFiles:
    """The folder of one study, below the storage folder that all studies share."""

    storage: Path
    study: str

    @property
    def directory(self) -> Path:
        """The study's own folder."""
        return self.storage / self.study

    @property
    def description(self) -> Path:
        """What the study is, see `search.plans.description`."""
        return self.directory / "study.json"

    @property
    def trials(self) -> Path:
        """The table of finished trials, see `search.record.trials_table`."""
        return self.directory / "trials.parquet"

    @property
    def warm_start(self) -> Path:
        """What the study learned from others, see `search.record.warm_start`."""
        return self.directory / "warm_start.json"

    @property
    def tracking_lock(self) -> Path:
        """The lock of whoever projects the record into MLflow."""
        return self.directory / "tracking.lock"

    @property
    def default_study_storage(self) -> str:
        """The address of a journal in the study's own folder."""
        return f"journal:///{self.directory / 'optuna.journal'}"

    @property
    def default_tracking_uri(self) -> str:
        """The address of the MLflow database that studies of this storage share."""
        return f"sqlite:///{self.storage / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Where MLflow keeps files when it is a database."""
        return self.storage / "mlartifacts"

    @property
    def dense_cache(self) -> Path:
        """The dense runs of all studies of this storage. No study can have this name."""
        return self.storage / ".dense"

    @property
    def launches(self) -> Path:
        """A folder for every launch, with Ray Tune's files and checkpoints."""
        return self.directory / "ray"

    def trial(self, number: int) -> Path:
        """Return a trial's folder."""
        return self.directory / "trials" / f"{number:05d}"

    def reports(self, number: int) -> Path:
        """Return the file of a trial's reports, one line for each."""
        return self.trial(number) / "reports.jsonl"

    def exists(self) -> bool:
        """Whether there is such a study."""
        return self.description.is_file()


def study_files(storage: str, study: str) -> StudyFiles:
    """Return a study's files. Raises `UserError` for a storage or a name that cannot be one."""
    check_study_name(study)
    if "://" in storage:
        raise UserError(
            f"`--storage` must be a folder, got {storage!r}; a cluster shares one by a network "
            "file system"
        )
    if "?" in storage:
        raise UserError(
            f"`--storage` must not hold a '?', got {storage!r}: in a database's address the path "
            "ends there; choose another folder"
        )
    return StudyFiles(storage=Path(storage).expanduser().absolute(), study=study)


def again(command: str, study: str, storage: Path | str) -> str:
    """Return the command to recommend to somebody who keeps studies in `storage`."""
    place, here = Path(storage).absolute(), Path.cwd()
    if place == here / _DEFAULT_STORAGE:
        return f"python -m search {command} {study}"
    shown = place.relative_to(here) if place.is_relative_to(here) else place
    return f"python -m search {command} {study} --storage {shlex.quote(str(shown))}"


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write one JSON object, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(values, indent=2) + "\n")
    partial.replace(path)


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
