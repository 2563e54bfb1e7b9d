"""Read a study and its trials from the study's own record.

The record is `study.json` and `trials.parquet` in the study's folder. Where there is no such
folder, the copy of the record that MLflow keeps with the study's parent run is read instead.
"""

import contextlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.labels import remember_depth
from analysis.methods import remember_methods, settings_read
from analysis.studies import tracking
from trainables import report
from trainables.errors import UserError, unknown_name
from trainables.integrity.checksums import read_sealed, read_table
from trainables.terminal.as_typed import study_command
from trainables.terminal.command_line import masked

_COLUMNS = pa.schema(  # that the record of every study has
    {"trial": pa.string(), "number": pa.int64(), "method": pa.string(), "status": pa.string()}
)
RUNNING = "running"  # not a status of the record: a trial that has none yet


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Hold one trial: what was asked of it and the last values it reported.

    params: without settings that its method does not read, which say nothing about it.
    """

    trial: str  # "NAME-00003"
    number: int
    method: str
    seed: int | None
    status: str  # one of report.STATUSES, or RUNNING
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    fraction: float = float("nan")  # of its training
    started: datetime | None = None
    ended: datetime | None = None
    reason: str | None = None  # why it failed, where known
    confirms: int | None = None  # the number of the trial that it repeats at a fresh seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Hold a study and its trials, ordered by number. `notes` are sentences for the reader.

    confirmations: trials that repeat others at fresh seeds, which are not among `trials`.

    table: `trials.parquet`, one row per trial; empty for a study without trials.
    """

    name: str
    directory: Path  # runs/NAME; need not exist
    objectives: tuple[str, ...]  # one quality per task, then the cost
    trials: tuple[Trial, ...]
    facts: Mapping[str, Any]  # study.json: recipe, dataset, preset, seed, and so on
    source: str  # "parquet" or, where the record came from there, "mlflow"
    table: pa.Table = field(default_factory=_COLUMNS.empty_table, repr=False, compare=False)
    tracking_uri: str | None = None
    parent_run_id: str | None = None
    notes: tuple[str, ...] = ()
    confirmations: tuple[Trial, ...] = ()

    @property
    def qualities(self) -> tuple[str, ...]:
        """Return the objectives without the cost, one per task."""
        return tuple(name for name in self.objectives if not name.startswith("cost/"))

    @property
    def cost(self) -> str:
        """Return the objective that is a cost."""
        return next(name for name in self.objectives if name.startswith("cost/"))

    @property
    def is_grid(self) -> bool:
        """Tell whether the study trained given systems at given seeds, and searched nothing."""
        return self.facts.get("grid") is not None

    def with_status(self, *statuses: str) -> tuple[Trial, ...]:
        """Return the trials that have one of the statuses."""
        return tuple(t for t in self.trials if t.status in statuses)


def is_value(name: str, value: Any) -> bool:
    """Tell whether the value says something about a trial.

    None does not, and neither does a count of 0 steps of pre-training: the method's name says
    whether there is any.
    """
    return value is not None and not (name == "training.pretrain_steps" and value == 0)


def load_study(name: str, storage: str | Path = "runs", tracking_uri: str | None = None) -> Study:
    """Read the study `name` from its folder in `storage`, or else from MLflow.

    tracking_uri: MLflow's address; None for the one that `tracking.resolve_uri` finds.

    Raises `UserError` for a study that is in neither place (naming those that are), for a record
    that cannot be read and for objectives that make no sense.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise UserError(f"a study's name is that of one folder, got {name!r}; give the name alone")
    storage = Path(storage)
    directory = storage / name
    if any((directory / file).exists() for file in tracking.RECORD_FILES):
        _require_record(name, directory)
        facts, table = _read_record(directory)
        recorded = facts.get("tracking_uri")
        if recorded is None and "tracking_uri" in facts:
            recorded = tracking.default_uri(storage.absolute())  # follows the folder
        uri = tracking.resolve_uri(tracking_uri, recorded, storage)
        return study_of(name, directory, facts, table, tracking_uri=uri)
    uri = tracking.resolve_uri(tracking_uri, None, storage)
    if uri is None:
        raise _unknown_study(name, storage, None)
    with tempfile.TemporaryDirectory(prefix="disparse-record-") as folder:
        try:
            fetched = tracking.fetch_record(uri, name, Path(folder))
        except tracking.TrackingAway as away:
            raise _unknown_study(name, storage, None, f"MLflow does not answer ({away}).") from None
        if fetched is None:
            raise _unknown_study(name, storage, uri)
        facts, table = _read_record(Path(folder))
    facts = facts | {"parent_run_id": fetched.run_id}
    return study_of(
        name, directory, facts, table, tracking_uri=uri, source="mlflow", notes=fetched.notes
    )


def study_of(
    name: str,
    directory: Path,
    facts: Mapping[str, Any],
    table: pa.Table,
    *,
    tracking_uri: str | None = None,
    source: str = "parquet",
    notes: tuple[str, ...] = (),
) -> Study:
    """Return the study of a record that was read.

    facts: its study.json. table: in the schema of trials.parquet. Raises `UserError` for objectives
    that make no sense.
    """
    report.add_recorded_tasks(facts.get("own_tasks") or ())
    remember_methods(facts.get("own_methods") or {})
    remember_depth(str(facts.get("dataset")))
    trials = sorted((_trial(row) for row in table.to_pylist()), key=lambda t: t.number)
    return Study(
        name=name,
        directory=directory,
        objectives=_objectives(facts, name),
        trials=tuple(t for t in trials if t.confirms is None),
        confirmations=tuple(t for t in trials if t.confirms is not None),
        facts=facts,
        source=source,
        table=table,
        tracking_uri=tracking_uri,
        parent_run_id=facts.get("parent_run_id"),
        notes=(*notes, *_unfinished(name, directory, facts)),
    )


def known_studies(storage: Path, tracking_uri: str | None) -> tuple[str, ...]:
    """Return the names of the studies in `storage` and, if it answers, in MLflow, sorted."""
    names = {path.parent.name for f in tracking.RECORD_FILES for path in storage.glob(f"*/{f}")}
    if tracking_uri is not None:
        with contextlib.suppress(tracking.TrackingAway):
            names.update(tracking.study_names(tracking_uri))
    return tuple(sorted(names))


def _unfinished(name: str, directory: Path, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Say where the front is being confirmed: what is chosen by fresh seeds may still change."""
    if not facts.get("confirm"):
        return ()
    resume = study_command("search resume", name, directory.parent)
    return (
        f"confirmations of {name} are under way or were interrupted, so what fresh seeds say may "
        f"still change; `{resume}` finishes what was interrupted",
    )


def _require_record(name: str, directory: Path) -> None:
    """Raise `UserError` where a file of the record is gone; what it said must not be overwritten.

    A study that has just begun has no table yet.
    """
    facts, table = (directory / file for file in tracking.RECORD_FILES)
    if not facts.is_file():
        raise UserError(
            f"study {name!r} must have {str(facts)!r}, got no such file; restore it from a copy, "
            "or from the study's run in MLflow (record/study.json)"
        )
    ended = len(list(directory.glob("trials/*/summary.json")))
    if ended and not table.is_file():
        raise UserError(
            f"study {name!r} must have {str(table)!r}, for {ended} of its trials have ended, but "
            f"got no such file; `{study_command('search sync', name, directory.parent)}` writes "
            "it anew"
        )


def _read_record(folder: Path) -> tuple[dict[str, Any], pa.Table]:
    facts, path = _read_facts(folder / "study.json"), folder / "trials.parquet"
    table, name = _read_table(path), str(facts.get("name", ""))
    trials = map(str, table["trial"].to_pylist())
    others = [trial for trial in trials if trial.rpartition("-")[0] != name]
    if name and others:
        raise UserError(
            f"{str(path)!r} must hold the trials of {name!r}, got {others[0]!r} of another study; "
            f"`{study_command('search sync', name, folder.parent)}` writes it anew"
        )
    return facts, table


def _read_facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_sealed(path)
    except OSError as error:
        raise UserError(f"{path} must be a file to read, but {error}; restore it") from None


def _read_table(path: Path) -> pa.Table:
    """Read the trials; no rows where the file is yet to be written."""
    if not path.is_file():
        return _COLUMNS.empty_table()
    try:
        table = read_table(path)
    except OSError as error:
        raise UserError(f"{path} must be a file to read, but {error}; restore it") from None
    missing = [name for name in _COLUMNS.names if name not in table.column_names]
    if missing:
        raise UserError(
            f"{path} must be the record of a study, but it lacks the columns "
            f"{', '.join(missing)}; restore it"
        )
    return table


def _trial(row: Mapping[str, Any]) -> Trial:
    metrics = {
        name: float(value)
        for name, value in _from_json(row.get("metrics")).items()
        if isinstance(value, int | float)
    }
    fraction = row.get("fraction")
    return Trial(
        trial=row["trial"],
        number=int(row["number"]),
        method=row["method"] or "unknown",
        seed=None if row.get("seed") is None else int(row["seed"]),
        status=row["status"] if row["status"] in report.STATUSES else RUNNING,
        params=settings_read(row["method"] or "unknown", _from_json(row.get("params"))),
        metrics=metrics,
        fraction=float("nan") if fraction is None else float(fraction),
        started=_utc(row.get("started")),
        ended=_utc(row.get("ended")),
        reason=row.get("reason") or None,
        confirms=None if row.get("confirms") is None else int(row["confirms"]),
    )


def _from_json(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return {}
    return dict(value) if isinstance(value, Mapping) else {}


def _utc(value: Any) -> datetime | None:
    if isinstance(value, int | float):
        value = datetime.fromtimestamp(value, tz=UTC)
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _objectives(facts: Mapping[str, Any], name: str) -> tuple[str, ...]:
    names = tuple(facts.get("objectives") or ())
    if not names:
        tasks = tuple(facts.get("tasks") or ())
        if not tasks:
            raise UserError(
                f"study {name!r} must record its `objectives` or its `tasks`, but its study.json "
                "holds neither; restore it"
            )
        names = report.objective_names(tasks)
    costs = [n for n in names if report.describe(n).name.startswith("cost/")]
    if len(costs) != 1 or len(names) < 2:
        raise UserError(
            "`objectives` must be at least one quality and exactly one cost, got "
            f"{', '.join(names)}; correct the study's study.json"
        )
    leaked = [n for n in names if n.startswith("test/")]
    if leaked:
        raise UserError(f"`objectives` must not be on test, got {', '.join(leaked)}; use val")
    return tuple(n for n in names if n not in costs) + tuple(costs)


def _unknown_study(
    name: str, storage: Path, tracking_uri: str | None, remark: str = ""
) -> UserError:
    known = known_studies(storage, tracking_uri)
    aside = f" {remark}" if remark else ""
    if not known:
        return UserError(
            f"unknown study {name!r}: no study in {str(storage)!r}"
            f"{' or at ' + masked(tracking_uri) if tracking_uri else ''}; run one with "
            f"`python -m search run RECIPE`, or say where it is with --storage or "
            f"--tracking-uri.{aside}"
        )
    return UserError(f"{unknown_name('study', name, known)}{aside}")
