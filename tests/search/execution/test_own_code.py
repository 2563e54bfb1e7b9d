"""A trial whose own model or metric raises is a failed trial, recorded with what a user needs."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from spaces.presets import trial_config
from trainables.tune import DiSparseTrainable

OWN = Path(__file__).parents[2] / "trainables" / "users_own_code.py"
NAME = "a_users_code"


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a trial's configuration from settings, as `search.execution.launch` does."""
    from trainables.registry import tasks

    monkeypatch.setattr(tasks, "_own", {})
    (tmp_path / f"{NAME}.py").write_text(OWN.read_text())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, NAME, raising=False)

    def make(tasks: str, **settings: str) -> dict[str, Any]:
        overrides = {
            "training.steps": "4",
            "training.num_reports": "2",
            "training.batch_size": "2",
            "data.num_train": "24",
            "data.num_test": "8",
            "data.size": "32x32",
            "data.crop": "32x32",
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        root = str(tmp_path / "scenes")
        config = trial_config(
            "dense", "scenes", "tiny", tasks=tasks, root=root, overrides=overrides
        )
        return {
            "name": "s-00000",
            "number": 0,
            "config": json.dumps(config.to_dict()),
            "objectives": [],
            "directory": str(tmp_path / "trial"),
            "restore_from": None,
        }

    return make


def test_a_model_that_raises(trial: Any, tmp_path: Path) -> None:
    result = DiSparseTrainable(trial("depth", model__name=f"{NAME}:HookRaises")).train()
    result = result if result["done"] else pytest.fail("it went on")
    assert result["status"] == "failed"
    first_line = result["reason"].splitlines()[0]
    assert f"model '{NAME}:HookRaises' raised" in first_line
    assert f"IndexError: my schedule ends ({NAME}.py:" in first_line
    summary = json.loads((tmp_path / "trial" / "summary.json").read_text())
    assert summary["reason"] == result["reason"]
    assert 'raise IndexError("my schedule ends")' in summary["traceback"]


def test_a_metric_that_raises_at_the_end_leaves_the_trained_model(
    trial: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable = DiSparseTrainable(trial(f"{NAME}:HEIGHT", model__name=f"{NAME}:Good"))
    assert trainable.train()["status"] == "running"
    assert not (tmp_path / "trial" / "model.pt").exists()
    monkeypatch.setattr(sys.modules[NAME].Error, "broken", True)
    result = trainable.train()
    assert result["status"] == "failed"
    assert "ZeroDivisionError: no pixels" in result["reason"]
    assert (tmp_path / "trial" / "model.pt").exists()
