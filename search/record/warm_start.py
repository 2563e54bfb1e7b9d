"""What other studies have learned, for the sampler of a new one.

`--warm-start` names them, by a name in the same storage folder or by the path of a study's folder,
and `--prior` those whose fronts are meant, beside values. The complete trials of the former are
copied into `warm_start.json` of the new study when it begins, and the points of its prior into
`prior.json`, so that a resumed study has learned the same, whatever has become of the others.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FixedTrial

from analysis.statistics.pareto import non_dominated
from search.plans.objective_values import ending_objectives
from search.plans.plan import Plan
from search.record.files.study_file import find_storage
from search.record.files.study_folder import StudyFiles, again, others_than, read_json, write_json
from search.record.storage import StudyRecord
from search.samplers.prior import Prior
from spaces.space import Space
from trainables.addresses import first_line
from trainables.errors import UserError
from trainables.integrity.checksums import read_table
from trainables.report import REACHED_THE_END


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmTrial:
    """A trial that another study trained to its end.

    params: typed values by dotted name. metrics: final, by full name.
    """

    params: Mapping[str, Any]
    metrics: Mapping[str, float]

    def drawn_from(self, space: Space) -> FixedTrial | None:
        """Return the trial as `space` would have drawn it.

        None where it could not: a value is out of range, or one that it draws is not known.
        Parameters that `space` does not have are left out.
        """
        trial = FixedTrial(space.known(self.params))
        try:
            values = space.suggest(trial)
        except ValueError:
            return None
        return trial if values.items() <= self.params.items() else None


def warm_trials(plan: Plan, files: StudyFiles, *, begun: bool) -> tuple[WarmTrial, ...]:
    """Return what the sampler knows beforehand: read once, when the study begins.

    Raises `UserError` for a source that is not there or has no complete trial, and where the plan
    could use none of them.
    """
    if not plan.warm_start:
        return ()
    if not (begun and files.warm_start.exists()):
        found = [
            trial for source in plan.warm_start for trial in read_trials(source, files.storage)
        ]
        _require_useful(plan, found)
        write_json(files.warm_start, {"trials": [asdict(trial) for trial in found]})
    return tuple(WarmTrial(**row) for row in read_json(files.warm_start)["trials"])


def prior_of(plan: Plan, files: StudyFiles, *, begun: bool) -> Prior | None:
    """Return the prior of a study, read once, when it begins; None where it has none.

    Raises `UserError` for a study that is not there, or none of whose trials could be on the front
    of this one and drawn by it.
    """
    if not plan.prior:
        return None
    if not (begun and files.prior.exists()):
        values = dict(plan.prior.values)
        found = [
            {**point, **values}
            for source in plan.prior.studies
            for point in _front(plan, files, source)
        ]
        write_json(files.prior, {"points": found or [values]})
    return Prior(tuple(read_json(files.prior)["points"]))


def read_trials(source: str, storage: Path, option: str = "--warm-start") -> list[WarmTrial]:
    """Return the complete trials of another study; raise `UserError` where there are none.

    source: a name in `storage`, or a folder. option: what named it, for messages.
    """
    folder = Path(source).expanduser() if "/" in source else storage / source
    if not (folder / "study.json").is_file():
        raise UserError(
            f"`{option}` must name a study, got {source!r}, but {str(folder.parent)!r} has none of "
            f"that name ({others_than(folder.name, folder.parent)}); name one of those, or the "
            "path of another study's folder"
        )
    whole = f"`{option}` must name studies whose study.json and trials.parquet can be read"
    try:
        settings = read_json(folder / "study.json")["settings"]
    except (OSError, UserError, KeyError) as error:
        raise UserError(
            f"{whole}, got {source!r} ({first_line(error)}); restore study.json, or leave it out"
        ) from None
    if not ((folder / "trials.parquet").exists() or _has_ended(folder)):
        raise UserError(
            f"`{option}` must name studies with complete trials, got {source!r}, of which no trial "
            "has ended; wait for one, or leave it out"
        )
    try:
        rows = read_table(folder / "trials.parquet").to_pylist()
        found = [
            WarmTrial(
                params={**settings, **json.loads(row["params"])}, metrics=json.loads(row["metrics"])
            )
            for row in rows
            if row["status"] in REACHED_THE_END and row.get("confirms") is None
        ]
    except (OSError, UserError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{whole}, got {source!r} ({first_line(error)}); "
            f"`{again('sync', folder.name, folder.parent)}` writes the table again, or leave it out"
        ) from None
    if not found:
        raise UserError(
            f"`{option}` must name studies with complete trials, got {source!r} with none; "
            "leave it out"
        )
    return found


def _has_ended(folder: Path) -> bool:
    """Return whether a trial of the study has ended, by its record. Raises `UserError`."""
    files = StudyFiles(storage=folder.parent, study=folder.name)
    known = read_json(files.description)
    record = StudyRecord.load(find_storage(files, known), known["name"], known["study_id"])
    return any(trial.state.is_finished() for trial in record.trials())


def _require_useful(plan: Plan, found: list[WarmTrial]) -> None:
    named = ", ".join(plan.warm_start)
    if not any(set(plan.objectives) <= trial.metrics.keys() for trial in found):
        raise UserError(
            f"`--warm-start` must name studies that measured {', '.join(plan.objectives)}, got "
            f"{named}; leave it out, or use its tasks and cost"
        )
    if all(trial.drawn_from(plan.space) is None for trial in found):
        raise UserError(
            "`--warm-start` must name studies with a trial that this one could draw, got "
            f"{named} with {len(found)} of other parameters or ranges than the space "
            f"{plan.space.name!r}; leave it out"
        )


def _front(plan: Plan, files: StudyFiles, source: str) -> list[dict[str, Any]]:
    """Return the configurations on a study's front, by the objectives and bounds of `plan`."""
    params, vectors = [], []
    for trial in read_trials(source, files.storage, "--prior"):
        drawn = trial.drawn_from(plan.space)
        values, violations = ending_objectives(plan, None, trial.metrics)
        if drawn is not None and values is not None and max(violations.values(), default=0.0) <= 0:
            params.append(dict(drawn.params))
            vectors.append(values)
    if not params:
        raise UserError(
            f"`--prior` must name a study with a trial that this one could draw, that measured "
            f"{', '.join(plan.objectives)} and meets the constraints, got {source!r} with none; "
            "leave it out, or name values by NAME=VALUE"
        )
    return [p for p, on in zip(params, non_dominated(vectors), strict=True) if on]
