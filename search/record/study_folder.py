"""Where a study lives, and files that are complete or absent."""

import json
import os
import shlex
import shutil
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
        return self.storage / self.study

    @property
    def description(self) -> Path:
        return self.directory / "study.json"

    @property
    def trials(self) -> Path:
        return self.directory / "trials.parquet"

    @property
    def warm_start(self) -> Path:
        return self.directory / "warm_start.json"

    @property
    def lock(self) -> Path:
        return self.directory / "driver.lock"

    @property
    def tracking_lock(self) -> Path:
        return self.directory / "tracking.lock"

    @property
    def default_study_storage(self) -> str:
        """The address of a journal in the study's own folder."""
        return f"journal:///{self.directory / 'optuna.journal'}"

    @property
    def default_tracking_uri(self) -> str:
        return f"sqlite:///{self.storage / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        return self.storage / "mlartifacts"

    @property
    def dense_cache(self) -> Path:
        """Of all studies of this storage. No study can have this name, nor be taken for it."""
        return self.storage / ".dense"

    @property
    def launches(self) -> Path:
        return self.directory / "ray"

    def trial(self, number: int) -> Path:
        return self.directory / "trials" / f"{number:05d}"

    def reports(self, number: int) -> Path:
        return self.trial(number) / "reports.jsonl"

    def exists(self) -> bool:
        return self.description.is_file()


def study_files(storage: str, study: str) -> StudyFiles:
    """Raises `UserError` for a storage that is not a folder path, or no name of a study."""
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
    """The command to recommend to somebody who keeps studies in `storage`."""
    place = Path(storage).absolute()
    here = Path.cwd()
    if place == here / _DEFAULT_STORAGE:
        return f"python -m search {command} {study}"
    shown = place.relative_to(here) if place.is_relative_to(here) else place
    return f"python -m search {command} {study} --storage {shlex.quote(str(shown))}"


def make_writable(files: StudyFiles) -> None:
    """Create the study's folder. Raises `UserError` where nothing can be written."""
    try:
        files.directory.mkdir(parents=True, exist_ok=True)
        probe = files.directory / f".writable.{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"`--storage` must be writable, got {str(files.storage)!r} ({error.strerror}); "
            "choose another folder"
        ) from None


def remove_checkpoints(files: StudyFiles, trial: str) -> None:
    """Of one trial, whichever launch left them."""
    for directory in files.launches.glob(f"launch-*/{trial}/checkpoint_*"):
        shutil.rmtree(directory, ignore_errors=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Atomic: a reader sees the old file or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(values, indent=2) + "\n")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Raises `UserError` for a missing or damaged file."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(f"there is no {str(path)!r}; check the name and --storage") from None
    except ValueError as error:
        raise UserError(
            f"{str(path)!r} must hold one JSON object ({error}); restore it from a backup"
        ) from None


def append_json_line(path: Path, values: Mapping[str, Any]) -> None:
    """One line per report; a line cut short by a crash is ignored by `read_json_lines`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if file.tell() and not _ends_with_newline(path):
            file.write("\n")
        file.write(json.dumps(values) + "\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(dict(json.loads(line)))
        except ValueError:
            continue
    return rows


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
