"""`python -m search` as a user types it: a small real study, and mistakes with one message."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from search.plans.recipe import recipe_names, recipe_text
from tests.integration.records import front_of, mlflow_runs

REPOSITORY = Path(__file__).resolve().parents[2]

SMALL = [
    "--trials", "3", "--scheduler", "none",
    "--set", "training.steps=4", "--set", "training.num_reports=2",
    "--set", "sparsity.saliency_batches=1", "--set", "data.num_train=16",
    "--set", "data.num_test=4", "--set", "training.evaluation_batch_size=4",
]  # fmt: skip


def search(*arguments: str, folder: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "search", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=timeout,
    )


@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_small_real_study(tmp_path: Path) -> None:
    done = search("run", "demo", *SMALL, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("[") for line in lines) == 3
    assert any("mlflow ui --backend-store-uri sqlite:///" in line for line in lines)
    rows = pq.read_table(tmp_path / "runs" / "demo" / "trials.parquet").to_pylist()
    assert [(r["method"], r["status"]) for r in rows] == [
        ("dense", "complete"),
        ("random", "complete"),
        ("snip", "complete"),
    ]
    # The starting points are spread over the sparsities.
    assert [r["cost/density"] for r in rows] == pytest.approx([1.0, 0.451, 0.353], abs=1e-4)
    for number in range(3):
        folder = tmp_path / "runs" / "demo" / "trials" / f"{number:05d}"
        summary = json.loads((folder / "summary.json").read_text())
        kept = sum(layer["kept"] for layer in summary["masks"]["layers"].values())
        assert kept == summary["masks"]["kept"]
        assert (folder / "model.pt").is_file()
    # The report's front and MLflow's are one.
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    front = pq.read_table(tmp_path / "runs" / "demo" / "front.parquet")
    _, _, children = mlflow_runs(tmp_path / "runs", "demo")
    assert set(front["trial"].to_pylist()) == front_of(children)
    assert front.schema.equals(pq.read_schema(tmp_path / "runs" / "demo" / "trials.parquet"))
    # Asked again, it reports; asked for something else under the name, it refuses.
    again = search("run", "demo", *SMALL, "--no-report", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "3 trials" in again.stdout
    assert "study demo: nothing to do: every trial has ended\n" in again.stdout
    assert not any(line.startswith("[") for line in again.stdout.splitlines())
    launches = tmp_path / "runs" / "demo" / "ray"
    assert [path.name for path in launches.glob("launch-*")] == ["launch-000"]
    assert not list(launches.glob("launch-*/*/checkpoint_*"))
    other = search("run", "demo", "--no-report", folder=tmp_path)
    assert other.returncode == 2
    assert "exists and is another one: " in other.stderr
    assert "settings.training.steps was 4, is now 200" in other.stderr
    shown = search("status", "demo", "--json", folder=tmp_path)
    state = json.loads(shown.stdout)
    assert (state["finished"], state["trials"], state["driven"]) == (3, 3, False)
    assert state["counts"]["complete"] == 3
    # Asking how a study stands must not make what is missing.
    database = tmp_path / "runs" / "demo" / "optuna.journal"
    database.unlink()
    lost = search("status", "demo", folder=tmp_path)
    assert lost.returncode == 2
    assert "no such file" in lost.stderr
    assert not database.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "dmeo"],
            "unknown recipe (or path of a .toml file) 'dmeo'. Did you mean 'demo'? Valid: ",
        ),
        (["run", "demo", "--trials", "0"], "`--trials` must be at least 1"),
        (["run", "demo", "--set", "sparsity.targte=0.5"], "unknown override"),
        (["run", "demo", "--set", "sparsity.target=1.0"], "must be in [0, 1)"),
        (["run", "demo", "--storage", "/proc/none"], "`--storage` must be writable"),
        (["run", "demo", "--tracking-uri", "http://127.0.0.1:9"], "`--tracking-uri` must be"),
        (["run", "nyu-v2-small", "--data-root", "nowhere"], "data root"),
        (["run", "demo", "--tracking-uri", "http://u:hunter2@127.0.0.1:9"], "//u:***@127.0.0.1:9"),
        (["run", "demo", "--set", "objective.cost=cost/latency_spread"], "unknown cost"),
        (["run", "demo", "--set", "model.name=nope", *SMALL], "unknown model"),
        (["run", "demo", "--concurrency", "0"], "`--concurrency` must be at least 1"),
        (["run", "demo", "--trial-time-limit", "0"], "`--trial-time-limit` must be above 0"),
        (["run", "demo", "--name", "mlflow.db"], "a study's name must not be"),
        (["status", "../x"], "a study's name must be"),
        (["resume", "nobody"], "there is no study 'nobody'"),
        (["status", "nobody"], "there is no study 'nobody'"),
        (["sync", "nobody"], "there is no study 'nobody'"),
        (["delete", "nobody", "--yes"], "there is no study 'nobody'"),
        (["run", "mine.toml"], "the recipe 'mine.toml' must be a TOML file that can be read"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = search(*arguments, folder=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "hunter2" not in done.stdout + done.stderr
    assert not (tmp_path / "runs" / "demo").exists()


def test_help_has_examples_and_is_quick_to_import(tmp_path: Path) -> None:
    shown = search("run", "--help", folder=tmp_path)
    assert shown.returncode == 0
    assert "python -m search run demo" in shown.stdout
    code = (
        "import search.__main__, sys; "
        "print([m for m in ('ray', 'mlflow', 'optuna', 'torch') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_recipes_are_listed_and_printed_to_start_from(tmp_path: Path) -> None:
    listed = search("recipe", folder=tmp_path)
    assert listed.returncode == 0, listed.stderr
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert names == list(recipe_names())
    assert all(len(line.split()) > 3 for line in listed.stdout.splitlines())  # what each is
    printed = search("recipe", "demo", folder=tmp_path)
    assert printed.stdout == recipe_text("demo")
    mine = tmp_path / "mine.toml"
    mine.write_text(printed.stdout.replace("trials = 32", "trials = 0"))
    assert mine.read_text() != printed.stdout
    refused = search("run", "mine.toml", folder=tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "`--trials` must be at least 1, got 0" in refused.stderr
    unknown = search("recipe", "dmeo", folder=tmp_path)
    assert unknown.returncode == 2
    assert "Did you mean 'demo'?" in unknown.stderr
    assert not (tmp_path / "runs").exists()
