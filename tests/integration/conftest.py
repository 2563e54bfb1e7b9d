"""What integration tests share: a projector that is quick to start."""

import multiprocessing

import pytest


@pytest.fixture
def quick_projector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork projectors from a process that has loaded MLflow, which takes seconds for each.

    They are processes all the same, and the server ends with the tests.
    """
    multiprocessing.set_forkserver_preload(["search.tracking.projector_process"])
    forking = multiprocessing.get_context("forkserver")
    monkeypatch.setattr("search.tracking.projector.multiprocessing.get_context", lambda _: forking)
