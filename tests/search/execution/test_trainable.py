"""The Tune trainable without Tune: every misfortune is a result, every checkpoint shows damage."""

import errno
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from spaces.presets import trial_config
from tests.search.execution.hanging import hanging
from trainables.errors import Failure, UserError
from trainables.training.checkpoints.manifest import valid_checkpoint
from trainables.training.trial import Report
from trainables.training.watching.watchdog import silence_of
from trainables.tune import DiSparseTrainable


class FakeRun:
    """Two reports; the metrics or the error of the second are given."""

    second: ClassVar[Any] = {"val/depth/absolute_error": 0.5}
    start = 0
    notes = ("256 of 1,000 parameters stay dense",)

    def __init__(self, config: Any, *, device: str, **arguments: Any) -> None:
        assert device == "cpu"
        self.config = config
        self.arguments = arguments
        self.count = self.start
        self.total_seconds = 0.0
        self.last_report: Report | None = None

    @property
    def epochs(self) -> float:
        """Passes over the training split: half of one for every report."""
        return self.count / 2

    @classmethod
    def resume(cls, directory: Path, config: Any, **arguments: Any) -> "FakeRun":
        if not (directory / "count").is_file():
            raise UserError(f"no checkpoint in {directory}")
        run = cls(config, **arguments)
        run.count = int((directory / "count").read_text())
        return run

    def next_report(self) -> Report | None:
        if self.count == 2:
            return None
        self.count += 1
        metrics = {"val/depth/absolute_error": 1.0}
        if self.count == 2:
            if isinstance(self.second, BaseException):
                raise self.second
            metrics = self.second
        self.last_report = Report(
            step=10 * self.count, fraction=self.count / 2, metrics=metrics, final=self.count == 2
        )
        return self.last_report

    def summary(self, command: list[str]) -> dict[str, Any]:
        return {"command": command, "metrics": dict(self.second)}

    def export(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("weights and masks")

    def write(self, directory: Path) -> None:
        (directory / "count").write_text(str(self.count))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("trainables.sweep.attempt.TrialRun", FakeRun)
    monkeypatch.setenv("HOME", str(tmp_path))
    return {
        "name": "s-00003",
        "number": 3,
        "config": json.dumps(trial_config("snip", "scenes", "tiny").to_dict()),
        "objectives": ["val/depth/absolute_error"],
        "directory": str(tmp_path / "trials" / "00003"),
        "restore_from": None,
    }


def test_the_dense_cache_and_the_baseline_reach_the_run(
    config: dict[str, Any], tmp_path: Path
) -> None:
    alone = DiSparseTrainable(config)
    alone.train()
    assert alone._attempt.run.arguments == {"deployment": None}
    alone.save(str(tmp_path / "checkpoint"))
    baseline = trial_config("dense", "scenes", "tiny")
    shared = {
        **config,
        "dense_cache": str(tmp_path / ".dense"),
        "baseline": json.dumps(baseline.to_dict()),
    }
    for more in ({}, {"restore_from": str(tmp_path / "checkpoint")}):
        trainable = DiSparseTrainable({**shared, **more})
        trainable.train()
        arguments = trainable._attempt.run.arguments
        assert arguments["dense_cache"].directory == tmp_path / ".dense"
        assert arguments["dense_cache"]._how["device"] == "cpu"
        assert arguments["baseline_config"] == baseline


def summary_of(config: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads((Path(config["directory"]) / "summary.json").read_text()))


def test_reports_are_flat_results(config: dict[str, Any]) -> None:
    trainable = DiSparseTrainable(config)
    first, second = trainable.train(), trainable.train()
    assert (first["training/step"], first["training/fraction"]) == (10, 0.5)
    assert (first["status"], first["done"]) == ("running", False)
    assert (second["status"], second["done"]) == ("complete", True)
    assert [r["training/epochs"] for r in (first, second)] == [0.5, 1.0]
    assert second["training/gpu_hours"] == 0.0
    assert second["val/depth/absolute_error"] == 0.5
    assert summary_of(config)["status"] == "complete"
    assert summary_of(config)["trial"] == "s-00003"
    assert (Path(config["directory"]) / "model.pt").is_file()


def test_predictions_lie_beside_the_model_and_are_not_worth_a_trial(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def save(path: Path, run: FakeRun) -> None:
        asked.append(path)
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("trainables.sweep.attempt.save_predictions", save)
    trainable = DiSparseTrainable(config)
    trainable.train()
    assert not asked  # before the end
    assert trainable.train()["status"] == "complete"
    assert asked == [Path(config["directory"]) / "predictions.npz"]
    assert f"cannot write {asked[0]}: by zero" in capsys.readouterr().out

    def full(path: Path, run: FakeRun) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trainables.sweep.attempt.save_predictions", full)
    trainable.reset(config)
    trainable.train()
    with pytest.raises(OSError, match="No space left"):
        trainable.train()


@pytest.mark.parametrize("at_fault", ["summary", "export"])
def test_a_misfortune_at_the_very_end_is_a_result_too(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, at_fault: str
) -> None:
    def broken(self: FakeRun, *_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(FakeRun, at_fault, broken)
    trainable = DiSparseTrainable(config)
    trainable.train()
    result = trainable.train()
    assert (result["status"], result["done"]) == ("failed", True)
    assert "by zero" in result["reason"]


@pytest.mark.parametrize(
    ("misfortune", "reason"),
    [
        (Failure("loss is nan at step 7"), "loss is nan at step 7"),
        (UserError("no such root"), "no such root"),
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        ({"val/depth/absolute_error": float("nan")}, "val/depth/absolute_error=nan"),
        ({"other": 1.0}, "val/depth/absolute_error=missing"),
    ],
)
def test_misfortune_is_a_result(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, misfortune: Any, reason: str
) -> None:
    monkeypatch.setattr(FakeRun, "second", misfortune)
    trainable = DiSparseTrainable(config)
    trainable.train()
    result = trainable.train()
    assert (result["status"], result["done"]) == ("failed", True)
    assert reason in result["reason"]
    assert reason in summary_of(config)["reason"]
    # The actor is then reused for the next trial.
    monkeypatch.setattr(FakeRun, "second", {"val/depth/absolute_error": 0.5})
    assert trainable.reset({**config, "name": "s-00004"})
    assert trainable.train()["status"] == "running"
    assert trainable.train()["status"] == "complete"


def test_a_failed_trial_leaves_no_checkpoint_to_resume(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(FakeRun, "second", MemoryError())
    trainable = DiSparseTrainable(config)
    trainable.train()
    trainable.train()
    trainable.save(str(tmp_path / "checkpoint"))
    assert valid_checkpoint(tmp_path / "checkpoint") is None


def test_a_trial_goes_on_from_the_checkpoint_named_in_its_configuration(
    config: dict[str, Any], tmp_path: Path
) -> None:
    first = DiSparseTrainable(config)
    first.train()
    first.save(str(tmp_path / "checkpoint"))
    assert valid_checkpoint(tmp_path / "checkpoint") == 10
    again = DiSparseTrainable({**config, "restore_from": str(tmp_path / "checkpoint")})
    assert again.train()["training/step"] == 20
    moved = DiSparseTrainable(config)
    moved.restore(str(tmp_path / "checkpoint"))
    assert moved.train()["training/step"] == 20


def test_a_checkpoint_that_is_refused_costs_its_steps_and_nothing_else(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    first = DiSparseTrainable(config)
    first.train()
    first.save(str(tmp_path / "checkpoint"))

    def refuse(*_: object, **__: object) -> None:
        raise UserError("the checkpoint belongs to another configuration")

    monkeypatch.setattr(FakeRun, "resume", refuse)
    again = DiSparseTrainable({**config, "restore_from": str(tmp_path / "checkpoint")})
    assert again.train()["training/step"] == 10
    assert "s-00003 starts again: the checkpoint belongs to another" in capsys.readouterr().out
    # Ray restores by itself when it moves a trial: nothing may escape from there either.
    monkeypatch.setattr(FakeRun, "resume", lambda *_, **__: 1 / 0)
    moved = DiSparseTrainable(config)
    moved.restore(str(tmp_path / "checkpoint"))
    assert "division by zero" in moved.train()["reason"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "over the quota"),
        OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    ],
)
def test_a_full_disk_is_not_the_trials_fault(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(FakeRun, "second", error)
    trainable = DiSparseTrainable(config)
    trainable.train()
    with pytest.raises(type(error)):
        trainable.train()
    assert not (Path(config["directory"]) / "summary.json").exists()


def test_a_model_that_finds_no_space_is_not_lost_in_silence(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: FakeRun, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def refused(self: FakeRun, path: Path) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(FakeRun, "export", refused)  # costs the model, not the result
    trainable = DiSparseTrainable(config)
    trainable.train()
    assert trainable.train()["status"] == "complete"
    monkeypatch.setattr(FakeRun, "export", full)
    trainable = DiSparseTrainable(config)
    trainable.train()
    with pytest.raises(OSError, match="No space left"):
        trainable.train()


def test_a_trial_that_hung_is_not_tried_again(config: dict[str, Any], tmp_path: Path) -> None:
    first = DiSparseTrainable(config)
    first.train()
    first.save(str(tmp_path / "checkpoint"))
    directory = Path(config["directory"])
    assert hanging(directory, 600).returncode == 1
    again = DiSparseTrainable({**config, "time_limit_seconds": 60.0})
    again.restore(str(tmp_path / "checkpoint"))
    result = again.train()
    assert (result["status"], result["done"]) == ("failed", True)
    assert result["reason"] == silence_of(directory)
    assert result["reason"].startswith("no report within 0.5 s")
    again.stop()
    # An actor that is reused takes over no other trial's silence, and leaves nothing.
    other = {**config, "directory": str(tmp_path / "other"), "time_limit_seconds": 60.0}
    assert again.reset_config(other)
    assert again.train()["training/step"] == 10
    again.stop()
    assert not (tmp_path / "other" / "silence.txt").exists()
    assert silence_of(directory)
