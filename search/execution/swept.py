"""`search import`: takes the results of `python -m trainables sweep` into a study's record.

Everything is read and checked before anything is written: a damaged or foreign result is named, and
nothing of the sweep is taken. What the study has is never taken again.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.execution.callbacks.monitor import Monitor
from search.execution.launch_options import Launch
from search.plans.description import DESCRIPTION_VERSION, plan_from_description
from search.plans.plan import Plan
from search.record.files.study_folder import StudyFiles, again
from search.record.ledger import Ledger
from search.record.outcomes import judge, metrics_of
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.sweep.folder import (
    MODEL,
    PREDICTIONS,
    REPORTS,
    SUMMARY,
    Sweep,
    SweepFolder,
    TrialFolder,
    differences,
)
from trainables.terminal.as_typed import command

_MAX_DIFFERENCES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptTrial:
    """Holds how one trial ended; `reports` are rows of its `reports.jsonl`."""

    folder: TrialFolder
    result: Mapping[str, Any]
    crash: str
    reports: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """Holds a finished sweep, read and checked.

    trials: by their configuration. data: the digest of their data. num_without_model: trials whose
      large files were not brought along.
    """

    folder: SweepFolder
    sweep: Sweep
    trials: Mapping[str, SweptTrial]
    data: str
    num_without_model: int


def read_swept(directory: Path) -> Swept:
    """Read and check a sweep's folder.

    Raises `UserError` for one that is damaged, unfinished, holds results of another sweep, or is
    not of a grid that `search baselines --export-grid` wrote.
    """
    folder = SweepFolder(directory)
    sweep = folder.read()
    if sweep.study is None:
        raise UserError(
            f"a sweep to import must be of a grid that `search baselines … --export-grid` wrote, "
            f"got {str(directory)!r} of one that belongs to no study; export one and train that"
        )
    if sweep.study.get("version") != DESCRIPTION_VERSION:
        raise UserError(
            f"the grid of {str(directory)!r} must describe its study in version "
            f"{DESCRIPTION_VERSION}, got {sweep.study.get('version')}; import it with the release "
            "that exported it"
        )
    trials: dict[str, SweptTrial] = {}
    num_without_model = 0
    missing = []
    for trial in sweep.trials:
        kept = folder.trial(trial.number)
        found = kept.result()
        if found is None:
            missing.append(trial.number)
            continue
        unlike = differences(trial.config, found["config"])
        if (found["number"], found["name"]) != (trial.number, trial.name):
            unlike.insert(0, f"the trial was {trial.name}, is now {found['name']}")
        if found["device"] != sweep.device:
            unlike.append(f"the device was {sweep.device}, is now {found['device']}")
        if unlike:
            raise UserError(
                f"{str(kept.result_file)!r} must be of trial {trial.number} of this sweep, got a "
                f"result of another one: {'; '.join(unlike[:_MAX_DIFFERENCES])}; restore it"
            )
        num_without_model += MODEL in kept.check_files(found)
        trials[_key(trial.config)] = SweptTrial(
            folder=kept,
            result=found["result"],
            crash=found["crash"],
            reports=tuple(kept.reports()),
        )
    if missing:
        raise UserError(
            f"a sweep to import must have ended, got {str(directory)!r} with {len(missing)} of "
            f"{len(sweep.trials)} trials to go; go on with it: "
            f"{command('trainables sweep', 'GRID', '--out', str(directory))}"
        )
    data = {trial.data for trial in sweep.trials}
    if len(data) > 1:
        raise UserError(
            f"all trials of a study must have the same data, got {len(data)} different ones in "
            f"{str(directory)!r}; export the grid and train it again"
        )
    return Swept(
        folder=folder,
        sweep=sweep,
        trials=trials,
        data=data.pop(),
        num_without_model=num_without_model,
    )


def plan_of_swept(swept: Swept, name: str | None) -> Plan:
    """Return the plan of the study that the sweep's grid was exported from.

    name: of the study; None for its own. Raises `UserError` where the sweep trained other trials.
    """
    assert swept.sweep.study is not None
    described = dict(swept.sweep.study)
    plan = plan_from_description(described | {"name": name or described["name"]})
    assert plan.grid is not None
    where = str(swept.folder.directory)
    cells = plan.grid.cells()
    if len(cells) != len(swept.sweep.trials):
        raise UserError(
            f"the sweep in {where!r} must have the trials of its study's grid, {len(cells)}, got "
            f"{len(swept.sweep.trials)}; export the grid and train it again"
        )
    for trial, (params, seed) in zip(swept.sweep.trials, cells, strict=True):
        unlike = differences(plan.config(params, seed).to_dict(), trial.config)
        if unlike:
            raise UserError(
                f"the sweep in {where!r} must have the trials of its study's grid, but of trial "
                f"{trial.number} {'; '.join(unlike[:_MAX_DIFFERENCES])}; export the grid and train "
                "it again"
            )
    return plan


def taking(swept: Swept) -> Callable[..., None]:
    """Return what takes the place of `run_trials`: every trial that is handed out has ended."""

    def take_trials(
        plan: Plan,
        launch: Launch,
        files: StudyFiles,
        ledger: Ledger,
        monitor: Monitor,
        reports: object,
        ready: Callable[[], None],
        more: object = None,
    ) -> None:
        ready()
        while (assignment := ledger.next()) is not None:
            found = swept.trials.get(_key(assignment.config.to_dict()))
            if found is None:
                raise UserError(
                    f"the sweep in {str(swept.folder.directory)!r} must have a result for "
                    f"{assignment.name}, got none of that configuration; run that trial by "
                    f"`{again('resume', plan.study, files.storage)}`"
                )
            monitor.assigned(assignment)
            _bring(found.folder, files.trial(assignment.number))
            for row in found.reports:
                ledger.reported(assignment.number, metrics_of(row["metrics"]))
            outcome = judge(
                found.result,
                plan.objectives,
                constraints=plan.constraints,
                error=found.crash or None,
            )
            assert outcome is not None
            ledger.finish(assignment.number, outcome)

    return take_trials


def _bring(kept: TrialFolder, folder: Path) -> None:
    """Put a trial's files where the study has them: as links, or copies on another file system."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (SUMMARY, MODEL, PREDICTIONS, REPORTS):
        if not (kept / name).is_file():
            continue
        partial = folder / f".{name}.{os.getpid()}.partial"
        partial.unlink(missing_ok=True)
        try:
            os.link(kept / name, partial)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
            shutil.copy2(kept / name, partial)
        partial.replace(folder / name)


def _key(config: Mapping[str, Any]) -> str:
    """Return what tells configurations apart, wherever their data are."""
    whole = TrialConfig.from_dict(config)
    return json.dumps(whole.replace({"data.root": None}).to_dict(), sort_keys=True)
