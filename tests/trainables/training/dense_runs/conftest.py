"""A dense cache, what it says, and the steps of dense trials that this process trains."""

from pathlib import Path

import pytest

from trainables.training.dense_runs.cache import DenseCache
from trainables.training.loop.loop import TrainingLoop


@pytest.fixture
def dense_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of dense trials that this process trains, as they are trained."""
    steps: list[int] = []
    advance = TrainingLoop.advance

    def logged(self: TrainingLoop) -> None:
        if self.config.method == "dense":
            steps.append(self.step)
        advance(self)

    monkeypatch.setattr(TrainingLoop, "advance", logged)
    return steps


@pytest.fixture
def said() -> list[str]:
    """The lines that `cache` says."""
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> DenseCache:
    """An empty cache."""
    return DenseCache(tmp_path / "cache", "cpu", say=said.append)
