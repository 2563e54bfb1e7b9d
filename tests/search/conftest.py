"""An MLflow file for every test: its tables take seconds, so they are made once."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    """Where studies in `tmp_path` keep their runs by default."""
    return f"sqlite:///{shutil.copyfile(empty_database, tmp_path / 'mlflow.db')}"
