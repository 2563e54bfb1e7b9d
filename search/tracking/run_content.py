"""What MLflow's runs say of a study and its trials: tags, parameters, metrics and status."""

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mlflow.entities import Metric, Param
from optuna.trial import FrozenTrial

from search.plans.grid import Grid
from search.plans.limits.budget import Budget
from search.plans.prior_settings import prior_text
from search.record.files.study_folder import StudyFiles
from search.record.front import CONFIRMS, front_of, is_confirmation
from search.record.repeats import repeats_of
from spaces.presets import without_effect
from trainables.config import TrialConfig, flatten
from trainables.errors import UserError
from trainables.report import (
    REACHED_THE_END,
    TAG_CONFIRMS,
    TAG_FRONT,
    TAG_METHOD,
    TAG_STATUS,
    TAG_STUDY,
    TAG_TRIAL,
    describe,
    task_of,
)
from trainables.sweep.folder import trial_name

TAG_KIND = "disparse.kind"
TAG_MODEL = "disparse.model"  # the file of a trial's trained model
TAG_REASON = "disparse.reason"
TAG_STUDY_ID = "disparse.study_id"
TAG_PARENT = "mlflow.parentRunId"
END_TAGS = (TAG_STATUS, TAG_REASON)
# Artifacts of the parent by tag: files of the study's folder, and where they are put. The tag holds
# a digest of what was sent.
_ARTIFACTS = {
    "disparse.record": {"study.json": "record", "trials.parquet": "record"},
    "disparse.report": {"*.html": "", "*.png": "", "front*.parquet": "", "fronts/*": "fronts"},
}
STEP_METRIC = "training/fraction"  # in every report, so its history holds every step logged

# FINISHED means trained to the end: values that can be compared with one another. KILLED are also
# those that an interrupted study left, without a `disparse.status`.
_STATUSES = {
    "complete": "FINISHED",
    "infeasible": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
_FRESH = "fresh/"
_MAX_PARAM_CHARACTERS = 6000  # MLflow's limit
_MAX_REASON_CHARACTERS = 4000


def has_ended(trial: FrozenTrial) -> bool:
    """Whether the trial's end is recorded."""
    return "status" in trial.user_attrs and trial.datetime_complete is not None


def status_of(trial: FrozenTrial, *, live: bool) -> str:
    """Return MLflow's status. live: whether a driver is at work on trials that have not ended."""
    if has_ended(trial):
        return _STATUSES.get(trial.user_attrs["status"], "FAILED")
    return "RUNNING" if live else "KILLED"


def times_of(trial: FrozenTrial) -> tuple[int | None, int | None]:
    """Return start and end in milliseconds since the epoch; Optuna keeps naive local times."""
    moments = (trial.datetime_start, trial.datetime_complete)
    start, end = (None if m is None else int(m.timestamp() * 1000) for m in moments)
    return start, end


def settings_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return the settings that a trial reads, by dotted name; of a refused one, what there is."""
    attributes = trial.user_attrs
    if "config" in attributes:
        settings = flatten(attributes["config"])
        try:
            unread = without_effect(TrialConfig.from_dict(attributes["config"]), settings)
        except UserError:  # a method of the user's own that is no more
            unread = ()
        return {name: value for name, value in settings.items() if name not in unread}
    return {**attributes.get("params", trial.params), "seed": attributes.get("seed")}


def front_tags(
    trials: Sequence[FrozenTrial], objectives: Sequence[str]
) -> dict[int, dict[str, str]]:
    """Return by trial's number whether it is on the joint front, and on each task's own."""
    fronts = {TAG_FRONT: front_of(trials, objectives)}
    costs = [name for name in objectives if name.startswith("cost/")]
    for name in objectives:
        if name not in costs:
            task = task_of(name)
            fronts[f"{TAG_FRONT}.{task}"] = front_of(trials, objectives, (name, *costs))
    members = {tag: set(numbers) for tag, numbers in fronts.items()}
    return {
        trial.number: {tag: str(trial.number in on).lower() for tag, on in members.items()}
        for trial in trials
    }


def tags_of(
    trial: FrozenTrial, study: Mapping[str, Any], parent_run_id: str, name: str, model: Path
) -> dict[str, str]:
    """Return the tags of a trial's run but for the fronts. study: its `study.json`.

    model: the file of the trained model, which need not exist.
    """
    tags = {
        TAG_PARENT: parent_run_id,
        TAG_STUDY: str(study["name"]),
        TAG_STUDY_ID: str(study["study_id"]),
        TAG_TRIAL: name,
        TAG_METHOD: str(settings_of(trial).get("method", "")),
    }
    if CONFIRMS in trial.user_attrs:
        tags[TAG_CONFIRMS] = trial_name(study["name"], trial.user_attrs[CONFIRMS])
    if has_ended(trial):
        if model.is_file():
            tags[TAG_MODEL] = str(model)
        tags[TAG_STATUS] = trial.user_attrs["status"]
        if trial.user_attrs["reason"]:
            tags[TAG_REASON] = trial.user_attrs["reason"][:_MAX_REASON_CHARACTERS]
    return tags


def artifacts_of(files: StudyFiles) -> dict[str, list[tuple[Path, str]]]:
    """Return by tag the files that are the parent's artifacts, each with its folder there."""
    return {
        tag: [
            (path, folder)
            for pattern, folder in patterns.items()
            for path in sorted(files.directory.glob(pattern))
            if not path.name.startswith(".")  # half-written
        ]
        for tag, patterns in _ARTIFACTS.items()
    }


def params_of(values: Mapping[str, Any], known: Container[str] = ()) -> list[Param]:
    """Return parameters as text, cut to MLflow's limit; without those of the names `known`."""
    new = {name: str(value) for name, value in values.items() if name not in known}
    return [Param(name, text[:_MAX_PARAM_CHARACTERS]) for name, text in new.items()]


def metrics_of(reports: Iterable[Mapping[str, Any]]) -> list[Metric]:
    """Return the finite values of rows of `reports.jsonl`."""
    return [
        Metric(name, value, int(row["at"] * 1000), row["step"])
        for row in reports
        for name, value in row["metrics"].items()
        if math.isfinite(value)
    ]


def study_tags(study: Mapping[str, Any], files: StudyFiles) -> dict[str, str]:
    """Return what the parent run says of itself in MLflow's own places: description and source."""
    name = study["name"]
    bounds = " ".join(f"{metric} {text}" for metric, text in study["constraints"].items())
    tags = {
        "mlflow.note.content": (
            f"Sparse multitask models on **{study['dataset']}** ({study['preset']}), tasks "
            f"{', '.join(study['tasks'])}; objectives {', '.join(study['objectives'])}"
            f"{f'; constraints {bounds}' if bounds else ''}.\n\n"
            f"Every child run is a trial; those with the tag `{TAG_FRONT}` = `true` are the models "
            "that no other beats in every objective. The artifact `report.html` says which to "
            f"take, as does `python -m analysis pick {name}`. Files: `{files.directory.resolve()}`."
        ),
        "mlflow.source.name": f"python -m search resume {name}",
        "mlflow.source.type": "LOCAL",
    }
    commit = study.get("commit")
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def study_metrics(trials: Sequence[FrozenTrial], objectives: Sequence[str]) -> dict[str, float]:
    """Return the parent's key metrics: counts, the front's size, and the best of each objective."""
    own = [trial for trial in trials if not is_confirmation(trial)]
    complete = [trial for trial in own if trial.user_attrs.get("status") == "complete"]
    members = set(front_of(trials, objectives))
    found = {"study/trials": float(len(own)), "study/complete": float(len(complete))}
    found["study/front"] = float(len(members))
    for name in objectives:
        values = [t.user_attrs["metrics"][name] for t in complete if t.number in members]
        if values:
            best = max if describe(name).direction == "maximize" else min
            found[f"best/{name}"] = float(best(values))
    return found


def fresh_means(
    trials: Sequence[FrozenTrial], objectives: Sequence[str]
) -> dict[int, dict[str, float]]:
    """Return, by the number of a trial that was confirmed, its means over the fresh seeds.

    They are metrics named as columns of `front.parquet`: `fresh/NAME/mean` by objective, and
    `fresh/seeds`, of how many. All that ran to their end count, also those that missed a
    constraint: without them only the lucky ones would be left. A replicate shares them, as there.
    """
    repeats = repeats_of(trials)
    found = {}
    for trial in trials:
        again = repeats.get(trial.number, ()) if _reached(trial) else ()
        rows = [t.values for t in again if _reached(t) and t.values]
        if not rows:
            continue
        means = map(fmean, zip(*rows, strict=True))
        named = {f"{_FRESH}{name}/mean": mean for name, mean in zip(objectives, means, strict=True)}
        found[trial.number] = {f"{_FRESH}seeds": float(len(rows)), **named}
    return found


def of_fresh_seeds(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return what `fresh_means` gave, of the metrics of a run."""
    return {name: value for name, value in metrics.items() if name.startswith(_FRESH)}


def params_of_study(study: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of the parent run. study: its `study.json`."""
    constraints = study["constraints"].items()
    grid = {} if study["grid"] is None else Grid.from_json(study["grid"]).facts()
    return {
        **{n: str(study[n]) for n in ("recipe", "dataset", "preset", "seed", "sampler")},
        **{n: ",".join(study[n]) for n in ("tasks", "objectives", "warm_start")},
        "budget": Budget(**study["first_budget"]).text,
        "scheduler": "none" if study["scheduler"] is None else "pareto-asha",
        "constraints": ", ".join(f"{name}{text}" for name, text in constraints),
        "prior": prior_text(study.get("prior")),
        "space": "grid" if grid else study["resolved_recipe"]["space"],
        **{name: text for name, text in grid.items() if text},
    }


def _reached(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get("status") in REACHED_THE_END
