"""What a study has left in Optuna, MLflow and its table, and whether the three agree."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

REPOSITORY = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def optuna_study(folder: Path, name: str, storage: str | None = None) -> optuna.Study:
    own = f"sqlite:///{folder / name / 'optuna.db'}"
    return optuna.load_study(study_name=name, storage=storage or own)


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
    """All agree on exactly `trials` trials, all ended, the complete ones with every point.

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
    client, parents, children = mlflow_runs(folder, name, tracking_uri)
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    assert sorted(r.data.tags["disparse.trial"] for r in children) == names
    statuses = {row["trial"]: row["status"] for row in rows}
    for run in children:
        tags = run.data.tags
        assert tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert tags["disparse.study_id"] == parents[0].data.tags["disparse.study_id"]
        assert tags["disparse.status"] == statuses[tags["disparse.trial"]]
        assert run.info.status == (
            "FINISHED" if tags["disparse.status"] == "complete" else "FAILED"
        )
        assert run.data.params["method"] == tags["disparse.method"]
        history = client.get_metric_history(run.info.run_id, "training/fraction")
        logged = [point.step for point in history]
        assert len(logged) == len(set(logged)), (run.info.run_name, logged)
        if tags["disparse.status"] == "complete":
            assert sorted(logged) == list(steps)
    assert front_of(children) == {names[t.number] for t in study.best_trials}
    assert not list((folder / name).glob("ray/launch-*/*/checkpoint_*"))
    return rows
