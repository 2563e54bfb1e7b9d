"""What other studies have learned, for the model of a new one.

`--warm-start` names them, each in one of three ways:

    demo                             a study of the same storage folder, or the path of its folder
    mlflow:demo                      a study that the MLflow of this one knows
    postgresql://host/db#demo        a study in an Optuna storage

Their complete trials are copied into `warm_start.json` of the new study when it begins, so that
a resumed study has learned the same, whatever has become of them.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.record.addresses import STUDY_SCHEMES, check_answers, local_file, scrubbed, sqlite_file
from search.record.study_folder import StudyFiles, read_json
from search.samplers.trial_sampler import Draw
from spaces.space import Parameter, Space
from trainables.command_line import masked
from trainables.errors import UserError
from trainables.report import TAG_STATUS, TAG_STUDY

_MLFLOW = "mlflow:"
_FULL_LENGTH = ("complete", "infeasible")  # statuses whose metrics are final


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmTrial:
    """A trial that another study trained to its end.

    params: typed values by dotted name, those of the configuration among them or not.
    metrics: final, by full name.
    """

    params: Mapping[str, Any]
    metrics: Mapping[str, float]

    def draw(self, space: Space) -> Draw | None:
        """As `space` would have drawn it; None where it could not: a value is out of range, or
        one that it draws is not known. Parameters that `space` does not have are left out."""
        recorder = _Recorder(self.params)
        try:
            drawn = space.suggest(recorder)
        except KeyError:
            return None
        for name, value in space.fixed.items():
            if name in drawn and (name not in self.params or self.params[name] != value):
                return None  # of another method, say
        for parameter in space.parameters:
            if parameter.name in drawn and not parameter.contains(drawn[parameter.name]):
                return None
        kinds = {p.name: {"float": float, "int": int}.get(p.kind) for p in space.parameters}
        params = {n: kind(v) if (kind := kinds[n]) else v for n, v in recorder.params.items()}
        return Draw(params=params, distributions=recorder.distributions)

    def to_json(self) -> dict[str, Any]:
        return {"params": dict(self.params), "metrics": dict(self.metrics)}

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Self:
        return cls(params=known["params"], metrics=known["metrics"])


class _Recorder:
    """Stands in for a trial of Optuna: gives known values, as they are, and notes distributions.

    Raises `KeyError` for a parameter without a value.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        value: float = self._note(name, FloatDistribution(low, high, log=log))
        return value

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        value: int = self._note(name, IntDistribution(low, high, log=log))
        return value

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._note(name, CategoricalDistribution(choices))

    def _note(self, name: str, distribution: BaseDistribution) -> Any:
        value = self._values[name]
        self.params[name], self.distributions[name] = value, distribution
        return value


def read_warm_trials(
    sources: Sequence[str],
    *,
    storage: Path,
    tracking_uri: str,
    space: Space,
    objectives: Sequence[str],
) -> tuple[WarmTrial, ...]:
    """The complete trials of all sources, in order.

    storage, tracking_uri: where the new study lives; for the first two ways to name a source.
    space: gives the types of what MLflow keeps as text. objectives: that trials must have.

    Raises `UserError` for a source that is not there, does not answer, or has no complete trial,
    and where `space` could draw none of them.
    """
    found: list[WarmTrial] = []
    for source in sources:
        if source.startswith(_MLFLOW):
            trials = list(_from_mlflow(source.removeprefix(_MLFLOW), tracking_uri, space))
        elif "://" in source:
            trials = list(_from_optuna(source))
        else:
            trials = list(_from_folder(source, storage))
        if not trials:
            raise UserError(
                f"`--warm-start` must name studies with complete trials, got {masked(source)!r} "
                "with none; leave it out"
            )
        found += trials
    if not any(set(objectives) <= trial.metrics.keys() for trial in found):
        raise UserError(
            f"`--warm-start` must name studies that measured {', '.join(objectives)}, got "
            f"{', '.join(masked(s) for s in sources)}; leave it out, or use its tasks and cost"
        )
    if all(trial.draw(space) is None for trial in found):
        raise UserError(
            "`--warm-start` must name studies with a trial that this one could draw, got "
            f"{', '.join(masked(s) for s in sources)} with {len(found)} of other parameters or "
            f"ranges than the space {space.name!r}; leave it out"
        )
    return tuple(found)


def write_snapshot(files: StudyFiles, trials: Iterable[WarmTrial]) -> None:
    """Atomic."""
    partial = files.warm_start.with_suffix(".partial")
    partial.write_text(json.dumps([trial.to_json() for trial in trials]))
    partial.replace(files.warm_start)


def read_snapshot(files: StudyFiles) -> tuple[WarmTrial, ...]:
    """What `write_snapshot` wrote. Raises `UserError` where it is gone or damaged."""
    try:
        return tuple(WarmTrial.from_json(row) for row in json.loads(files.warm_start.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{str(files.warm_start)!r} must hold what the study was warm-started with ({error}); "
            "restore it from a backup"
        ) from None


def _from_folder(source: str, storage: Path) -> Iterable[WarmTrial]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(source).expanduser() if "/" in source else storage / source
    path = folder / "trials.parquet"
    try:
        rows = pq.read_table(path, columns=["status", "params", "metrics"]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        said = str(error).partition("\n")[0]
        raise UserError(
            f"`--warm-start` must name studies, got {source!r} ({said}); `search status` knows "
            "a study by its name and --storage"
        ) from None
    description = folder / "study.json"
    fixed = read_json(description).get("settings", {}) if description.is_file() else {}
    for row in rows:
        if row["status"] in _FULL_LENGTH:
            params = {**fixed, **json.loads(row["params"])}
            yield WarmTrial(params=params, metrics=json.loads(row["metrics"]))


def _from_optuna(source: str) -> Iterable[WarmTrial]:
    import optuna
    from optuna.trial import TrialState

    from search.record.ledger import load_trials  # which imports this module
    from search.record.storage import open_storage

    address, _, name = source.rpartition("#")
    if not address or not name:
        raise UserError(
            f"`--warm-start` must read STORAGE#STUDY for an Optuna storage, got "
            f"{masked(source)!r}; e.g. postgresql://host/database#demo"
        )
    check_answers("--warm-start", address, STUDY_SCHEMES)
    path = local_file(address)
    if path is not None and not path.is_file():  # Optuna would make one
        raise UserError(
            f"`--warm-start` must name studies, got {masked(source)!r}, which is no file; check "
            "the path"
        )
    try:
        study = optuna.load_study(study_name=name, storage=open_storage(address))
        trials, names = load_trials(study), study.metric_names or ()
    except KeyError:
        raise UserError(
            f"`--warm-start` must read STORAGE#STUDY, got {masked(source)!r}, which has no such "
            "study; check its name"
        ) from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"`--warm-start` must name an Optuna storage that answers, got {masked(source)!r} "
            f"({scrubbed(str(error), address)}); start it"
        ) from None
    for trial in trials:
        status = trial.user_attrs.get("status")
        if status in _FULL_LENGTH:
            known = {**trial.user_attrs.get("config", {}), **trial.user_attrs["params"]}
            yield WarmTrial(params=known, metrics=trial.user_attrs["metrics"])
        elif status is None and trial.state == TrialState.COMPLETE:  # of somebody else's program
            if not names:
                raise UserError(
                    f"`--warm-start` must name studies whose values are known by name, got "
                    f"{masked(source)!r}; name them with `study.set_metric_names`"
                )
            yield WarmTrial(
                params=trial.params, metrics=dict(zip(names, trial.values, strict=False))
            )


def _from_mlflow(study: str, tracking_uri: str, space: Space) -> Iterable[WarmTrial]:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    path = sqlite_file(tracking_uri)
    if path is not None and not path.is_file():  # MLflow would make one
        raise UserError(
            f"`--warm-start {_MLFLOW}{study}` must find its study in MLflow, got "
            f"{masked(tracking_uri)!r}, which does not exist; check --tracking-uri"
        )
    client = MlflowClient(tracking_uri=tracking_uri)
    kinds = {parameter.name: parameter for parameter in space.parameters}
    where = f"tags.`{TAG_STUDY}` = '{study}' and tags.`{TAG_STATUS}` != 'failed'"
    token = None
    try:
        experiments = [e.experiment_id for e in client.search_experiments()]
        while True:
            page = client.search_runs(experiments, where, page_token=token)
            for run in page:
                if run.data.tags[TAG_STATUS] in _FULL_LENGTH:
                    texts = run.data.params
                    params = {n: _typed(p, texts[n]) for n, p in kinds.items() if n in texts}
                    yield WarmTrial(params=params, metrics=dict(run.data.metrics))
            token = page.token
            if not token:
                return
    except MlflowException as error:
        raise UserError(
            f"`--warm-start {_MLFLOW}{study}` needs an MLflow that answers, got "
            f"{masked(tracking_uri)!r} ({scrubbed(str(error), tracking_uri)})"
        ) from None


def _typed(parameter: Parameter, text: str) -> Any:
    """The value that MLflow keeps as `text`; the text itself where it is none of the kind."""
    if parameter.kind == "categorical":
        return next((choice for choice in parameter.choices if str(choice) == text), text)
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if parameter.kind == "int" and math.isfinite(number) else number
