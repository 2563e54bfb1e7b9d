"""Where a study lives, and files that are complete or absent."""

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import filelock
from optuna.trial import FrozenTrial

from search.plans.recipe import check_study_name
from search.record.files.journal import append_lines, lines_of
from trainables.addresses import ARTIFACTS, file_address
from trainables.errors import Failure, UserError
from trainables.integrity.checksums import read_sealed, sealed
from trainables.terminal import answers
from trainables.terminal.as_typed import study_command

_PROJECTOR_SECONDS = 60.0

logger = logging.getLogger(__name__)


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
        self.prior = self.directory / "prior.json"
        self.launches = self.directory / "ray"
        self.default_study_storage = file_address("journal", self.directory / "optuna.journal")
        self.default_tracking_uri = file_address("sqlite", storage / "mlflow.db")
        self.artifacts = storage / ARTIFACTS
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
    if "://" in storage:
        raise UserError(
            f"`--storage` must be the path of a folder, not an address, got {storage!r}; a cluster "
            "shares one by a network file system"
        )
    return StudyFiles(storage=Path(storage).expanduser().absolute(), study=study)


def others_than(study: str, storage: Path) -> str:
    """Return which studies a storage folder holds instead of one that it lacks, in words.

    Raises `UserError` where it holds the record of that one, whose study.json was lost.
    """
    folder, names = storage / study, sorted(p.parent.name for p in storage.glob("*/study.json"))
    if any((folder / name).exists() for name in ("optuna.journal", "trials.parquet", "trials")):
        raise UserError(
            f"the study {study!r} must have {str(folder / 'study.json')!r}, got no such file, only "
            "the rest of its record; restore it from a copy, or from the study's run in MLflow "
            "(record/study.json)"
        )
    if not storage.is_dir():
        return "there is no such folder"
    close = get_close_matches(study, names, n=1)
    held = f"it holds {', '.join(names) or 'none'}"
    return f"{held}; did you mean {close[0]!r}?" if close else held


def again(command: str, study: str, storage: Path | str, *options: str) -> str:
    """Return the command to recommend to somebody who keeps studies in `storage`."""
    return study_command(f"search {command}", study, Path(storage), *options)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write one JSON object with its checksum, complete or not at all."""
    answers.write_json(path, sealed(values))


def read_json(path: Path) -> dict[str, Any]:
    """Return one JSON object. Raises `UserError` for a missing or damaged file."""
    try:
        return read_sealed(path)
    except OSError as error:
        raise UserError(
            f"{str(path)!r} must be a file to read ({error.strerror}); check the name and --storage"
        ) from None


def append_json_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one line; one cut short by a crash is removed first, and ignored when read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    append_lines(path, [values])


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the undamaged lines of a file, and say which are not; none where there is no file."""
    rows, damaged = [], []
    for number, (row, _) in enumerate(lines_of(path) if path.is_file() else (), start=1):
        if isinstance(row, ValueError):
            damaged.append(number)
        else:
            rows.append(row)
    if damaged:
        _say_damaged(path, tuple(damaged))
    return rows


@functools.cache  # once in a process
def _say_damaged(path: Path, numbers: tuple[int, ...]) -> None:
    lines = ", ".join(map(str, numbers))
    logger.warning("%s: left out, since damaged: line %s; the rest is used", path, lines)


def past_reports(
    files: StudyFiles, trials: Sequence[FrozenTrial]
) -> list[tuple[FrozenTrial, dict[str, float]]]:
    """Return trials and metrics of all reports on disk, in the order they came."""
    reports = []
    for trial in trials:
        at = 0.0
        for row in read_json_lines(files.reports(trial.number)):
            at = max(at, row["at"])  # a clock may be set back, but not the order of a file
            reports.append((at, trial.number, trial, row["metrics"]))
    reports.sort(key=lambda report: report[:2])
    return [(trial, metrics) for _, _, trial, metrics in reports]
