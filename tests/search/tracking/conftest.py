"""A study's record, and the calls of MLflow that write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from tests.search.tracking.mlflow_files import Recorded

WRITES = (
    "create_run",
    "log_batch",
    "set_terminated",
    "update_run",
    "set_tag",
    "delete_run",
    "restore_run",
    "log_artifact",
)


@pytest.fixture
def study(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of calls that write, in order."""
    made: list[str] = []

    def spied(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            made.append(name)
            return real(*arguments, **named)

        return call

    for name in WRITES:
        monkeypatch.setattr(MlflowClient, name, spied(name, getattr(MlflowClient, name)))
    return made
