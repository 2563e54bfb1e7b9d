"""Provide a study's record, and one MLflow store that the tests share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.built_studies import (
    BuiltStudy,
    Row,
    log_to_mlflow,
    realistic_rows,
    write_record,
)


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., BuiltStudy]:
    """Return `record(name, rows, tasks=…, summaries=…)`, which writes a study without MLflow."""

    def build(name: str, rows: list[Row], **options: Any) -> BuiltStudy:
        return write_record(tmp_path / "runs", name, rows, **options)

    return build


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an MLflow store with the record of a realistic study of 14 trials, called `tracked`."""
    folder = tmp_path_factory.mktemp("mlflow")
    tasks = ("segmentation", "normals")
    rows = realistic_rows(14, tasks, seed=3)
    log_to_mlflow(write_record(folder / "runs", "tracked", rows, tasks=tasks), folder / "mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def no_server_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests, not the shell they run in, decide which MLflow server there is."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
