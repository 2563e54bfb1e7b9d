"""From a study to a model in use: search, pick, ship and register, predict."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest

from tests.integration.records import REPOSITORY, mlflow_runs
from tests.integration.test_search_command import SMALL

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_search_pick_ship_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "search", "run", "demo", *SMALL)
    client, (parent,), trials = mlflow_runs(tmp_path / "runs", "demo")
    sent = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"record", "report.html", "front.png", "front.parquet", "fronts"} <= sent
    assert {f"predictions-{task}.png" for task in ("segmentation", "normals", "depth")} <= sent
    pages = {item.path for item in client.list_artifacts(parent.info.run_id, "fronts")}
    kept = tmp_path / "runs" / "demo" / "fronts"
    assert pages == {f"fronts/{path.name}" for path in kept.iterdir()}
    assert "nothing to change" in run(tmp_path, "search", "sync", "demo")

    bounds = ["--where", "cost/density<=0.9"]
    picked = json.loads(run(tmp_path, "analysis", "pick", "demo", *bounds, "--json", "-"))
    options = ["--out", "shipped", "--register", "rooms", "--json", "-"]
    shipped = json.loads(run(tmp_path, "search", "ship", "demo", *bounds, *options))
    assert shipped["trial"] == picked["trial"]
    # The command that began the study, not the one that would resume it.
    assert shipped["trained_by"] == ["python", "-m", "search", "run", "demo", *SMALL]
    (trial,) = [t for t in trials if t.data.tags["disparse.trial"] == picked["trial"]]
    assert trial.data.tags["disparse.model"] == str(tmp_path / picked["model"])
    assert {t.data.tags["disparse.front.depth"] for t in trials} == {"true", "false"}

    size = shipped["config"]["data"]["size"]
    images = np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "shipped" / "model.onnx")
    expected = session.run(None, {"images": images})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    for address in (shipped["mlflow"]["uri"], "models:/rooms/1"):
        model = mlflow.pyfunc.load_model(address)
        assert model.metadata.run_id == trial.info.run_id
        predicted = model.predict(images)
        assert list(predicted) == shipped["config"]["data"]["tasks"]
        for mine, theirs in zip(predicted.values(), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
