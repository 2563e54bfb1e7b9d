"""GRID.json: the list of trials that `python -m trainables sweep` trains, and how it is checked.

One JSON object:

- `version`: 1.
- `name`: of the sweep; the file's own name where it is left out. Trials are `NAME-00000`, ….
- `trials`: a list of objects, each with `config`, a whole configuration as in the "config" of
  `train … --json FILE`, or else with options of `train`: `method`, `dataset`, `preset`, `tasks`,
  `sparsity`, `seed`, `steps`, `metrics`, and `settings`, an object of dotted names. And with
  `baseline`, if it is compared with a dense trial: that one's place in the list, from 0.
- `objectives`: metrics that must be finite for a trial to count as complete; each task's primary
  metric on validation and `cost/density` where they are left out.
- `study` and `crc32`: of a file that `search baselines … --export-grid` wrote: what it came from,
  and a checksum. A file without checksum is read as it is.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.config import TrialConfig
from trainables.errors import UserError, unknown_name
from trainables.integrity.checksums import read_sealed, sealed
from trainables.report import objective_names
from trainables.terminal.answers import write_json

GRID_VERSION = 1
_KEYS = ("version", "name", "trials", "objectives", "study")
_OPTIONS = {  # of `train`, by the name in a trial: of `spaces.presets.trial_config`
    "method": "method",
    "dataset": "dataset",
    "preset": "preset",
    "tasks": "tasks",
    "sparsity": "sparsity",
    "seed": "seed",
    "steps": "steps",
    "metrics": "metrics",
    "settings": "overrides",
}
_DEFAULTS = {"dataset": "scenes", "preset": "tiny"}  # as of `train`
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "method": ((str,), "a name"),
    "dataset": ((str,), "a name"),
    "preset": ((str,), "a name"),
    "tasks": ((str, list), "names"),
    "sparsity": ((int, float), "a number"),
    "seed": ((int,), "a whole number"),
    "steps": ((int,), "a whole number"),
    "metrics": ((str,), "a name"),
    "settings": ((dict,), "an object of dotted names"),
    "config": ((dict,), "an object"),
    "baseline": ((int, type(None)), "a place in the list"),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

MakeConfig = Callable[..., TrialConfig]  # `spaces.presets.trial_config`


@dataclass(frozen=True, kw_only=True, slots=True)
class GridTrial:
    """Describes one trial; `baseline` is the place of the dense trial it is compared with."""

    config: TrialConfig
    baseline: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GridFile:
    """Holds the content of GRID.json with every configuration resolved.

    objectives: empty for each trial's own primary metrics and `cost/density`.
    study: what `search baselines` says of the study that the grid is of; None for other grids.
    """

    name: str
    trials: tuple[GridTrial, ...]
    objectives: tuple[str, ...] = ()
    study: Mapping[str, Any] | None = None

    def objectives_of(self, config: TrialConfig) -> tuple[str, ...]:
        """Return the metrics that must be finite for a trial to be complete."""
        return self.objectives or objective_names(config.data.tasks)

    def to_json(self) -> dict[str, Any]:
        """Return the object of GRID.json, without its checksum."""
        return {
            "version": GRID_VERSION,
            "name": self.name,
            "objectives": list(self.objectives),
            "study": None if self.study is None else dict(self.study),
            "trials": [
                {"config": trial.config.to_dict(), "baseline": trial.baseline}
                for trial in self.trials
            ],
        }


def write_grid(path: Path, grid: GridFile) -> None:
    """Write GRID.json with a checksum, complete or not at all. Raises `UserError`."""
    write_json(path, sealed(grid.to_json()))


def read_grid(path: Path, make_config: MakeConfig) -> GridFile:
    """Return what GRID.json asks for.

    make_config: makes a trial of the options of `train`. Raises `UserError` for a file that cannot
    be read or is damaged, and for content that does not fit; the message names the trial.
    """
    where = f"the grid {str(path)!r}"
    try:
        values = read_sealed(path)
    except OSError as error:
        raise UserError(
            f"GRID must be a JSON file to read, got {str(path)!r} ({error.strerror}); write one by "
            "hand (--help shows the form), or by `search baselines … --export-grid`"
        ) from None
    if values.get("version") != GRID_VERSION:
        raise UserError(
            f"`version` of {where} must be {GRID_VERSION}, got {values.get('version')!r}; write it "
            "in the form of this release (`sweep --help`)"
        )
    for key in values:
        if key not in _KEYS:
            raise unknown_name(f"key of {where}", key, _KEYS)
    name = values.get("name", path.stem)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"`name` of {where} must be 1 to 63 letters, digits, '.', '_' or '-' and begin with a "
            f"letter or digit, got {name!r}; trials are named after it"
        )
    rows = values.get("trials")
    if not isinstance(rows, list) or not rows:
        raise UserError(
            f"`trials` of {where} must be a list with at least one trial, got {rows!r}; "
            'e.g. [{"method": "snip", "dataset": "scenes", "sparsity": 0.9}]'
        )
    objectives = values.get("objectives") or []
    if not isinstance(objectives, list) or not all(isinstance(o, str) for o in objectives):
        raise UserError(
            f"`objectives` of {where} must be a list of metrics, got {objectives!r}; leave it out "
            "for the primary ones"
        )
    study = values.get("study")
    if study is not None and not isinstance(study, dict):
        raise UserError(f"`study` of {where} must be an object, got {study!r}; leave it out")
    trials = tuple(
        _trial(row, f"trial {place} of {where}", make_config) for place, row in enumerate(rows)
    )
    _check_together(trials, where)
    return GridFile(name=name, trials=trials, objectives=tuple(objectives), study=study)


def _trial(row: Any, where: str, make_config: MakeConfig) -> GridTrial:
    if not isinstance(row, dict):
        raise UserError(
            f"{where} must be an object, got {row!r}; "
            'e.g. {"method": "snip", "sparsity": 0.9, "seed": 0}'
        )
    whole = "config" in row
    valid = ("config", "baseline") if whole else (*_OPTIONS, "baseline")
    for key, value in row.items():
        if key not in valid:
            raise unknown_name(f"key of {where}", key, valid)
        kinds, words = _TYPES[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UserError(f"`{key}` of {where} must be {words}, got {value!r}; correct it")
    if not whole and "method" not in row:
        raise UserError(
            f"{where} must have a `method` or a whole `config`, got {sorted(row)}; add one"
        )
    try:
        if whole:
            config = TrialConfig.from_dict(row["config"])
        else:
            given = {_OPTIONS[key]: row[key] for key in row if key != "baseline"}
            config = make_config(**{**_DEFAULTS, **given})
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return GridTrial(config=config, baseline=row.get("baseline"))


def _check_together(trials: tuple[GridTrial, ...], where: str) -> None:
    """Raise `UserError` for a trial that is there twice, and for a baseline that is none."""
    places: dict[str, int] = {}
    for place, trial in enumerate(trials):
        first = places.setdefault(repr(sorted(trial.config.flat().items())), place)
        if first != place:
            raise UserError(
                f"the trials of {where} must differ, got trials {first} and {place} alike; give "
                "one of them another seed, or leave it out"
            )
        if trial.baseline is None:
            continue
        other = trials[trial.baseline] if 0 <= trial.baseline < len(trials) else None
        if other is None or other.config.method != "dense":
            found = "no trial" if other is None else other.config.method
            raise UserError(
                f"`baseline` of trial {place} of {where} must be the place of a dense trial, "
                f"from 0, got {trial.baseline} ({found}); name another one, or leave it out"
            )
        if other.config.data.tasks != trial.config.data.tasks:
            raise UserError(
                f"`baseline` of trial {place} of {where} must have the same tasks, got trial "
                f"{trial.baseline} with {', '.join(other.config.data.tasks)} for "
                f"{', '.join(trial.config.data.tasks)}; name another one, or leave it out"
            )
