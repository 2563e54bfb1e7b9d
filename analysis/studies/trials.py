"""A study's trials in one shape, whether they come from MLflow or from the study's own record.

`load_study` reads MLflow; where the tracking server is away, or knows less than
`runs/NAME/trials.parquet`, the record steps in and `Study.notes` says so.
"""

import contextlib
import dataclasses
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.studies import tracking
from trainables import report
from trainables.command_line import masked
from trainables.errors import UserError, unknown_name

RUNNING = "running"  # not a status of the record: a trial that has none yet


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One trial: what was asked of it and the last values it reported."""

    trial: str  # "NAME-00003"
    number: int
    method: str
    seed: int | None
    status: str  # one of report.STATUSES, or RUNNING
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    fraction: float = float("nan")
    started: datetime | None = None
    ended: datetime | None = None
    reason: str | None = None  # why it failed, where known
    run_id: str | None = None  # MLflow's, where the trial was read from there
    recorded: bool = False  # whether the study's own record has it, which completes `params`
    # Of `params`, what was drawn or given to this trial alone; None where only MLflow, which has
    # all settings of a trial, knows it.
    given: frozenset[str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A study and its trials, ordered by number. `notes` are sentences for the reader."""

    name: str
    directory: Path  # runs/NAME; need not exist
    objectives: tuple[str, ...]  # one quality per task, then the cost
    trials: tuple[Trial, ...]
    facts: Mapping[str, Any]  # recipe, dataset, preset, seed, … as far as recorded
    source: str  # "mlflow" or "parquet"
    tracking_uri: str | None = None  # only where the server answered
    parent_run_id: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def qualities(self) -> tuple[str, ...]:
        return tuple(name for name in self.objectives if not name.startswith("cost/"))

    @property
    def cost(self) -> str:
        return next(name for name in self.objectives if name.startswith("cost/"))

    def with_status(self, *statuses: str) -> tuple[Trial, ...]:
        return tuple(t for t in self.trials if t.status in statuses)


def is_value(name: str, value: Any) -> bool:
    """Whether a trial has the parameter. No steps of pre-training are no value: that a method has
    none, its name says."""
    return value is not None and not (name == "training.pretrain_steps" and value == 0)


def load_study(name: str, storage: str | Path = "runs", tracking_uri: str | None = None) -> Study:
    """The study `name`. `tracking_uri` overrides the one in the study's `study.json`.

    Raises `UserError` for a study that neither MLflow nor `storage` knows (naming those
    that are known), for a record that cannot be read and for objectives that make no sense.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise UserError(f"a study's name is that of one folder, got {name!r}; give the name alone")
    directory = Path(storage) / name
    facts: dict[str, Any] = _read_facts(directory / "study.json")
    notes: list[str] = []
    recorded = _read_record(directory / "trials.parquet")
    uri = tracking.resolve_uri(tracking_uri, facts.get("tracking_uri"), Path(storage))
    tracked: tracking.TrackedStudy | None = None
    reached: str | None = None
    if uri is None:
        notes.append("No tracking server is named: read from the study's own record.")
    else:
        try:
            tracked = tracking.read_study(
                uri,
                name,
                parent_run_id=facts.get("parent_run_id"),
                study_id=facts.get("study_id"),
            )
            reached = uri
        except tracking.TrackingAway as away:
            notes.append(f"The tracking server is away ({away}): read from the study's own record.")
    if tracked is None and recorded is None:
        raise _unknown_study(name, Path(storage), reached, notes)
    if tracked is None:
        if reached is not None:
            notes.append(
                f"MLflow at {masked(reached)} does not know this study: read from its own record."
            )
        trials = list(recorded or ())
    else:
        facts = {**tracked.params, **facts}
        trials, num_behind = _merge([_tracked_trial(run) for run in tracked.runs], recorded or ())
        notes.extend(tracked.notes)
        if num_behind:
            notes.append(_lag(name, Path(storage), num_behind))
    return Study(
        name=name,
        directory=directory,
        objectives=_objectives(facts, name),
        trials=tuple(sorted(trials, key=lambda t: t.number)),
        facts=facts,
        source="parquet" if tracked is None else "mlflow",
        tracking_uri=None if tracked is None else reached,
        parent_run_id=None if tracked is None else tracked.parent_run_id,
        notes=tuple(notes),
    )


def known_studies(storage: Path, tracking_uri: str | None) -> tuple[str, ...]:
    """Names under `storage` and, if it answers, in MLflow. Sorted."""
    names: set[str] = set()
    for pattern in ("*/study.json", "*/trials.parquet"):
        names.update(path.parent.name for path in storage.glob(pattern))
    if tracking_uri is not None:
        with contextlib.suppress(tracking.TrackingAway):
            names.update(tracking.study_names(tracking_uri))
    return tuple(sorted(names))


def _read_facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} must be a JSON object, but {error}; restore it") from None
    if not isinstance(facts, dict):
        raise UserError(f"{path} must be a JSON object, got {type(facts).__name__}; restore it")
    return facts


def _read_record(path: Path) -> list[Trial] | None:
    if not path.is_file():
        return None
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"{path} must be a Parquet file, but reading it failed: {first}; "
            "restore it, or remove it to read MLflow alone"
        ) from None
    return [_recorded_trial(row, path) for row in rows]


def _recorded_trial(row: Mapping[str, Any], path: Path) -> Trial:
    missing = [name for name in ("trial", "number", "method", "status") if name not in row]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}: no study's record")
    params = _from_json(row.get("params"))
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
        params=params,
        metrics=metrics,
        fraction=float("nan") if fraction is None else float(fraction),
        started=_utc(row.get("started")),
        ended=_utc(row.get("ended")),
        reason=row.get("reason") or None,
        recorded=True,
        given=frozenset(params),
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


def _tracked_trial(run: tracking.TrackedRun) -> Trial:
    tags, params = run.tags, run.params
    name = tags.get(report.TAG_TRIAL, run.run_id)
    _, _, digits = name.rpartition("-")
    status = tags.get(report.TAG_STATUS, RUNNING)
    seed = params.get("seed")
    metrics = dict(run.metrics)
    fraction = metrics.pop("training/fraction", float("nan"))
    return Trial(
        trial=name,
        number=int(digits) if digits.isdigit() else 0,
        method=tags.get(report.TAG_METHOD) or str(params.get("method", "unknown")),
        seed=seed if isinstance(seed, int) else None,
        status=status if status in report.STATUSES else RUNNING,
        params=params,
        metrics=metrics,
        fraction=fraction,
        started=run.started,
        ended=run.ended,
        reason=tags.get("disparse.reason"),
        run_id=run.run_id,
    )


def _merge(tracked: Iterable[Trial], recorded: Iterable[Trial]) -> tuple[list[Trial], int]:
    """MLflow's trials, completed from the record where MLflow lags behind it; and how many lag.

    The record is rebuilt from what the search itself decides by: where a trial is in it, its
    status and metrics stand, so that this front and the search's are one. Of parameters too: it
    says how long a trial trained, where MLflow has what the configuration would allow.
    """
    merged = {}
    for trial in sorted(tracked, key=lambda t: (t.started is not None, t.started or 0)):
        merged[trial.trial] = trial  # a doubled run: the one that started last
    num_behind = 0
    for trial in recorded:
        known = merged.get(trial.trial)
        if known is None:
            merged[trial.trial] = trial
            num_behind += 1
        elif trial.status != RUNNING:
            num_behind += _lags(known, trial)
            merged[trial.trial] = dataclasses.replace(
                known,
                status=trial.status,
                params={**known.params, **trial.params},
                metrics={**known.metrics, **trial.metrics},
                fraction=trial.fraction,
                reason=trial.reason or known.reason,
                ended=known.ended or trial.ended,
                recorded=True,
                given=trial.given,
            )
    return list(merged.values()), num_behind


def _lags(known: Trial, recorded: Trial) -> bool:
    """Whether MLflow lacks the trial's end, or has other final values than the record."""
    return known.status != recorded.status or any(
        math.isfinite(value)
        and not math.isclose(known.metrics.get(name, math.nan), value, rel_tol=1e-6)
        for name, value in recorded.metrics.items()
        if name.startswith(("val/", "test/", "cost/"))
    )


def _lag(name: str, storage: Path, num_behind: int) -> str:
    return (
        "MLflow lags behind the study's own record, which stepped in for "
        f"{num_behind} {'trial' if num_behind == 1 else 'trials'}; "
        f"`{shlex.join(['python', '-m', 'search', 'resume', name, '--storage', str(storage)])}` "
        "brings MLflow up to date."
    )


def _objectives(facts: Mapping[str, Any], name: str) -> tuple[str, ...]:
    names = _words(facts.get("objectives"))
    if not names:
        tasks = _words(facts.get("tasks"))
        if not tasks:
            raise UserError(
                f"study {name!r} must record its `objectives` or its `tasks`, in study.json or as "
                "parameters of the MLflow parent run; neither holds them"
            )
        names = report.objective_names(tasks)
    costs = [n for n in names if report.describe(n).name.startswith("cost/")]
    if len(costs) != 1 or len(names) < 2:
        raise UserError(
            "`objectives` must be at least one quality and exactly one cost, got "
            f"{', '.join(names)}; mend the study's record"
        )
    leaked = [n for n in names if n.startswith("test/")]
    if leaked:
        raise UserError(f"`objectives` must not be on test, got {', '.join(leaked)}; use val")
    return tuple(n for n in names if n not in costs) + tuple(costs)


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        return ()
    return tuple(str(v).strip() for v in value if str(v).strip())


def _unknown_study(
    name: str, storage: Path, tracking_uri: str | None, notes: Sequence[str]
) -> UserError:
    known = known_studies(storage, tracking_uri)
    aside = f" {' '.join(notes)}" if notes else ""
    if not known:
        return UserError(
            f"unknown study {name!r}: no study in {str(storage)!r}"
            f"{' or at ' + masked(tracking_uri) if tracking_uri else ''}; run one with "
            f"`python -m search run RECIPE`, or name its place by --storage.{aside}"
        )
    return UserError(f"{unknown_name('study', name, known)}{aside}")
