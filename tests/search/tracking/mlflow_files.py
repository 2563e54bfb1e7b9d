"""What tests of tracking share: a fresh MLflow file in no time, and what is in it."""

from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from search.record.study_folder import StudyFiles
from search.tracking.events import StudyFacts

FACTS = StudyFacts(study="s", study_id="1f", params={"recipe": "demo", "tasks": "a,b"})


def files_in(folder: Path, study: str = "s") -> StudyFiles:
    files = StudyFiles(storage=folder, study=study)
    files.directory.mkdir(parents=True, exist_ok=True)
    return files


def runs_of(uri: str, study_id: str | None = None) -> dict[str, Run]:
    """By trial name; the parent under `parent`. Fails where a trial has two.

    study_id: of one study, where there are several.
    """
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("disparse")
    assert experiment is not None
    where = "" if study_id is None else f"tags.`disparse.study_id` = '{study_id}'"
    runs = client.search_runs([experiment.experiment_id], where, max_results=5000)
    by_name = {r.data.tags.get("disparse.trial", "parent"): r for r in runs}
    assert len(by_name) == len(runs)
    return by_name


def points(uri: str, run: Run, key: str = "training/fraction") -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(run.info.run_id, key)
    return sorted((p.step, p.value) for p in history)


def metrics(fraction: float) -> dict[str, float]:
    return {"training/fraction": fraction, "val/depth/absolute_error": 1 - fraction}
