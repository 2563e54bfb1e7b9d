"""What other studies have learned, for the sampler of a new one.

`--warm-start` names them, each in one of three ways:

    demo                             a study of the same storage folder, or the path of its folder
    mlflow:demo                      a study whose table the MLflow of this one keeps
    postgresql://host/db#demo        a study in an Optuna storage

Their complete trials are copied into `warm_start.json` of the new study when it begins, so that
a resumed study has learned the same, whatever has become of them.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from search.record.draws import Draw, Recorder
from search.record.study_folder import StudyFiles, read_json, write_json
from spaces.space import Space
from trainables.addresses import STUDY_SCHEMES, check_answers, local_file, scrubbed
from trainables.command_line import masked
from trainables.config import flatten
from trainables.errors import UserError

_MLFLOW = "mlflow:"
_FULL_LENGTH = ("complete", "infeasible")  # statuses whose metrics are final

# Fetches `record/study.json` and `record/trials.parquet` of a study from MLflow into a folder.
Fetch = Callable[[str, Path], Path]


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmTrial:
    """A trial that another study trained to its end.

    params: typed values by dotted name; values of the configuration may be among them.
    metrics: final, by full name.
    """

    params: Mapping[str, Any]
    metrics: Mapping[str, float]

    def draw(self, space: Space) -> Draw | None:
        """Return the trial as `space` would have drawn it.

        None where it could not: a value is out of range, or one that it draws is not known.
        Parameters that `space` does not have are left out.
        """
        recorder = Recorder(self.params)
        try:
            drawn = space.suggest(recorder)
        except (KeyError, TypeError, ValueError):
            return None
        for name, value in space.fixed.items():
            if name in drawn and (name not in self.params or self.params[name] != value):
                return None  # of another method, say
        for parameter in space.parameters:
            if parameter.name in drawn and not parameter.contains(self.params[parameter.name]):
                return None  # out of range, or of another type
        return Draw(params=recorder.params, distributions=recorder.distributions)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `from_json` takes them."""
        return asdict(self)

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Self:
        """Make a trial from what `to_json` gave."""
        return cls(params=known["params"], metrics=known["metrics"])


def read_warm_trials(
    sources: Sequence[str],
    *,
    storage: Path,
    fetch: Fetch,
    space: Space,
    objectives: Sequence[str],
) -> tuple[WarmTrial, ...]:
    """Return the complete trials of all sources, in order.

    storage: the folder of the new study's neighbours. fetch: for `mlflow:` sources.
    objectives: what trials must have measured.

    Raises `UserError` for a source that is not there, does not answer, or has no complete trial,
    and where `space` could draw none of them.
    """
    found: list[WarmTrial] = []
    for source in sources:
        if source.startswith(_MLFLOW):
            with tempfile.TemporaryDirectory() as folder:
                fetched = fetch(source.removeprefix(_MLFLOW), Path(folder))
                trials = list(_from_folder(source, fetched))
        elif "://" in source:
            trials = list(_from_optuna(source))
        else:
            place = Path(source).expanduser() if "/" in source else storage / source
            trials = list(_from_folder(source, place))
        if not trials:
            raise _refused("name studies with complete trials", source, " with none; leave it out")
        found += trials
    named = ", ".join(masked(source) for source in sources)
    if not any(set(objectives) <= trial.metrics.keys() for trial in found):
        raise UserError(
            f"`--warm-start` must name studies that measured {', '.join(objectives)}, got "
            f"{named}; leave it out, or use its tasks and cost"
        )
    if all(trial.draw(space) is None for trial in found):
        raise UserError(
            "`--warm-start` must name studies with a trial that this one could draw, got "
            f"{named} with {len(found)} of other parameters or ranges than the space "
            f"{space.name!r}; leave it out"
        )
    return tuple(found)


def write_snapshot(files: StudyFiles, trials: Iterable[WarmTrial]) -> None:
    """Keep the trials with the study; atomic."""
    write_json(files.warm_start, {"trials": [trial.to_json() for trial in trials]})


def read_snapshot(files: StudyFiles) -> tuple[WarmTrial, ...]:
    """Return what `write_snapshot` kept. Raises `UserError` where it is gone or damaged."""
    try:
        rows = read_json(files.warm_start)["trials"]
        return tuple(WarmTrial.from_json(row) for row in rows)
    except (UserError, KeyError, TypeError) as error:
        raise UserError(
            f"{str(files.warm_start)!r} must hold what the study was warm-started with ({error}); "
            "restore it from a backup"
        ) from None


def _refused(rule: str, source: str, rest: str) -> UserError:
    """rest: what is wrong with the source, and the remedy."""
    return UserError(f"`--warm-start` must {rule}, got {masked(source)!r}{rest}")


def _from_folder(source: str, folder: Path) -> Iterator[WarmTrial]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = ["status", "params", "metrics"]
        rows = pq.read_table(folder / "trials.parquet", columns=columns).to_pylist()
    except (OSError, pa.ArrowException) as error:
        said = str(error).partition("\n")[0]
        remedy = "`search status` knows a study by its name and --storage"
        raise _refused("name studies", source, f" ({said}); {remedy}") from None
    description = folder / "study.json"
    fixed = read_json(description).get("settings", {}) if description.is_file() else {}
    for row in rows:
        if row["status"] in _FULL_LENGTH:
            params = {**fixed, **json.loads(row["params"])}
            yield WarmTrial(params=params, metrics=json.loads(row["metrics"]))


def _from_optuna(source: str) -> Iterator[WarmTrial]:
    import optuna
    from optuna.trial import TrialState

    from search.record.storage import flattened, open_storage

    address, _, name = source.rpartition("#")
    if not address or not name:
        rule = "read STORAGE#STUDY for an Optuna storage"
        raise _refused(rule, source, "; e.g. postgresql://host/database#demo")
    check_answers("--warm-start", address, STUDY_SCHEMES)
    path = local_file(address)
    if path is not None and not path.is_file():  # Optuna would make one
        raise _refused("name studies", source, ", which is no file; check the path")
    try:
        study = optuna.load_study(study_name=name, storage=open_storage(address))
        trials, names = [flattened(t) for t in study.get_trials()], study.metric_names
    except KeyError:
        rest = ", which has no such study; check its name"
        raise _refused("read STORAGE#STUDY", source, rest) from None
    except UserError:
        raise
    except Exception as error:
        rest = f" ({scrubbed(str(error), address)}); start it"
        raise _refused("name an Optuna storage that answers", source, rest) from None
    for trial in trials:
        status = trial.user_attrs.get("status")
        if status in _FULL_LENGTH:
            known = {**flatten(trial.user_attrs.get("config", {})), **trial.user_attrs["params"]}
            yield WarmTrial(params=known, metrics=trial.user_attrs["metrics"])
        elif status is None and trial.state == TrialState.COMPLETE:  # of somebody else's program
            if not names:
                rest = "; name them with `study.set_metric_names`"
                raise _refused("name studies whose values are known by name", source, rest)
            metrics = dict(zip(names, trial.values, strict=False))
            yield WarmTrial(params=trial.params, metrics=metrics)
