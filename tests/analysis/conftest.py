"""Fixtures over `built_studies`: a study's record, and one MLflow store shared by the tests."""

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
    """`record(name, rows, tasks=…, summaries=…)`: a study without MLflow."""

    def build(name: str, rows: list[Row], **options: Any) -> BuiltStudy:
        return write_record(tmp_path / "runs", name, rows, **options)

    return build


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with the record of one realistic study of 14 trials, called `tracked`."""
    folder = tmp_path_factory.mktemp("mlflow")
    tasks = ("segmentation", "normals")
    rows = realistic_rows(14, tasks, seed=3)
    log_to_mlflow(write_record(folder / "runs", "tracked", rows, tasks=tasks), folder / "mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def no_server_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests decide which tracking server there is, not the shell they run in."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
