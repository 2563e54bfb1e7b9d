"""What integration tests share: a projector that is quick to start, and a database for it."""

import multiprocessing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient


@pytest.fixture
def quick_projector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork projectors from a process that has loaded MLflow, which takes seconds for each.

    They are processes all the same, and the server ends with the tests.
    """
    multiprocessing.set_forkserver_preload(["search.tracking.projector_process"])
    forking = multiprocessing.get_context("forkserver")
    monkeypatch.setattr("search.tracking.projector.multiprocessing.get_context", lambda _: forking)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow to copy: its tables take seconds to make."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path
