"""What a study has left in Optuna, MLflow, Tune and its tables, and whether they agree."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from search.record.files.study_folder import read_json_lines, study_files
from search.record.storage import flattened, open_storage

REPOSITORY = Path(__file__).resolve().parents[2]

_MLFLOW_STATUS = {
    "complete": "FINISHED",
    "infeasible": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}


def environment() -> dict[str, str]:
    # Programs of the tests import ray first; `search run` sets the second itself.
    ours = {"PYTHONPATH": str(REPOSITORY), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return {**os.environ, **ours}


def optuna_study(folder: Path, name: str, storage: str | None = None) -> optuna.Study:
    own = f"journal:///{folder / name / 'optuna.journal'}"
    return optuna.load_study(study_name=name, storage=open_storage(storage or own))


def mlflow_runs(
    folder: Path, name: str, tracking_uri: str | None = None
) -> tuple[MlflowClient, list[Run], list[Run]]:
    """The client, the study's parents and their children."""
    client = MlflowClient(tracking_uri or f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("disparse")
    assert experiment is not None
    where = f"tags.`disparse.study` = '{name}'"
    runs = client.search_runs([experiment.experiment_id], where, max_results=1000)
    parents = [r for r in runs if r.data.tags.get("disparse.kind") == "study"]
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert len(parents) + len(children) == len(runs)
    return client, parents, children


def recorded_trials(folder: Path, name: str, storage: str | None = None) -> list[FrozenTrial]:
    """By number, with their attributes at the top."""
    return [flattened(trial) for trial in optuna_study(folder, name, storage).get_trials()]


def front_of(children: list[Run]) -> set[str]:
    return {
        r.data.tags["disparse.trial"] for r in children if r.data.tags["disparse.front"] == "true"
    }


def check_everything(
    folder: Path,
    name: str,
    trials: int,
    steps: tuple[int, ...],
    *,
    study_storage: str | None = None,
    tracking_uri: str | None = None,
) -> list[dict[str, Any]]:
    """All agree on exactly `trials` trials, all ended, each with every point that it reported,
    once, and the complete ones with a point at all of `steps`.

    study_storage, tracking_uri: None for the files of a local study.

    Returns the rows of the table.
    """
    study = optuna_study(folder, name, study_storage)
    states = Counter(t.state for t in study.get_trials())
    assert sum(states.values()) == trials
    assert not states[TrialState.RUNNING] + states[TrialState.WAITING]
    names = [f"{name}-{n:05d}" for n in range(trials)]
    rows = pq.read_table(folder / name / "trials.parquet").to_pylist()
    assert [row["trial"] for row in rows] == names
    for row, trial in zip(rows, recorded_trials(folder, name, study_storage), strict=True):
        given = trial.user_attrs
        assert (row["number"], row["seed"]) == (trial.number, given["seed"])
        assert (row["status"], row["reason"]) == (given["status"], given["reason"])
        assert json.loads(row["metrics"]) == given["metrics"]
        if row["status"] in ("complete", "infeasible"):
            assert [row[metric] for metric in study.metric_names] == trial.values
    client, parents, children = mlflow_runs(folder, name, tracking_uri)
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    assert sorted(r.data.tags["disparse.trial"] for r in children) == names
    by_name = {row["trial"]: row for row in rows}
    for run in children:
        tags, row = run.data.tags, by_name[run.data.tags["disparse.trial"]]
        assert tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert tags["disparse.study_id"] == parents[0].data.tags["disparse.study_id"]
        assert tags["disparse.status"] == row["status"]
        assert tags.get("disparse.reason", "") == row["reason"]
        assert run.info.status == _MLFLOW_STATUS[row["status"]]
        assert run.data.params["method"] == tags["disparse.method"]
        check_points(folder, name, row, client, run, steps)
    assert front_of(children) == {names[t.number] for t in study.best_trials}
    assert not list((folder / name).glob("ray/launch-*/*/checkpoint_*"))
    assert not running_in_tune(folder, name)
    return rows


def check_points(
    folder: Path,
    name: str,
    row: dict[str, Any],
    client: MlflowClient,
    run: Run,
    steps: tuple[int, ...],
) -> None:
    """MLflow holds what the trial reported, every point once, with its value and time."""
    reports = read_json_lines(study_files(str(folder), name).reports(row["number"]))
    assert len({r["step"] for r in reports}) == len(reports), (row["trial"], reports)
    if row["status"] == "complete":
        assert [r["step"] for r in reports] == list(steps)
    metrics = {metric for report in reports for metric in report["metrics"]}
    for metric in metrics:
        history = client.get_metric_history(run.info.run_id, metric)
        logged = sorted((p.step, p.value, p.timestamp) for p in history)
        assert logged == [
            (r["step"], r["metrics"][metric], int(r["at"] * 1000))
            for r in reports
            if r["metrics"].get(metric, float("nan")) == r["metrics"].get(metric)  # no NaN
        ], (row["trial"], metric)
    assert bool(metrics) == bool(run.data.metrics)


def running_in_tune(folder: Path, name: str) -> list[str]:
    """Trials that Tune's own record of any launch has as not ended."""
    found = []
    for path in (folder / name).glob("ray/launch-*/experiment_state-*.json"):
        statuses = tune_statuses(path)
        found += [f"{path.parent.name}/{n}: {s}" for n, s in statuses.items() if s in _UNFINISHED]
    return found


def tune_statuses(path: Path) -> dict[str, str]:
    """Tune's status by the trial's name, of an `experiment_state-….json`."""
    trials = [json.loads(text) for text, _ in json.loads(path.read_text())["trial_data"]]
    return {str(trial["config"]["name"]): str(trial["status"]) for trial in trials}


_UNFINISHED = ("PENDING", "RUNNING", "PAUSED")
