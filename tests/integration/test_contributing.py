"""The code in CONTRIBUTING, word for word: a method, a task and a data set of one's own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

SHORT = [
    "--steps", "3", "--set", "training.pretrain_steps=2", "--set", "training.batch_size=2",
    "--set", "training.num_reports=1", "--quiet",
]  # fmt: skip
SMALL_SCENES = [
    "--set", "data.size=32x32", "--set", "data.crop=32x32", "--set", "data.num_train=24",
    "--set", "data.num_test=4",
]  # fmt: skip


def blocks(repository: Path, language: str) -> list[str]:
    text = (repository / "CONTRIBUTING.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def lab(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the repository with the package `my_lab` as CONTRIBUTING prints it."""
    folder = tmp_path_factory.mktemp("lab")
    for block in blocks(repository, "python"):
        name = re.match(r"# (my_lab/\w+\.py)\n", block)
        assert name is not None, "a python block of CONTRIBUTING starts with its file's name"
        (folder / name[1]).parent.mkdir(exist_ok=True)
        (folder / name[1]).write_text(block)
    names = {"outlier", "methods", "height", "tasks", "rooms", "datasets"}
    assert {path.stem for path in (folder / "my_lab").iterdir()} == names
    return folder


@pytest.fixture(scope="module")
def rooms(lab: Path) -> Path:
    """Raw data in the layout that `my_lab.rooms` reads; the floor of every room is unknown."""
    draws = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 2)):
        (lab / "raw" / split).mkdir(parents=True)
        for i in range(count):
            height = draws.normal(1, 2, (48, 64)).astype(np.float32)
            height[40:] = np.nan
            np.savez(
                lab / "raw" / split / f"room{i // 2}-{i}.npz",
                image=draws.integers(0, 255, (48, 64, 3), np.uint8),
                depth=draws.uniform(1, 4, (48, 64)).astype(np.float32),
                height=height,
            )
    return lab / "raw"


def run(folder: Path, path: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_descriptions_are_free_of_torch(repository: Path, lab: Path) -> None:
    code = (
        "import sys, my_lab.methods, my_lab.tasks, my_lab.datasets\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{repository}:{lab}"},
        check=True,
    )


def test_a_method_of_ones_own(repository: Path, lab: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    run(
        repository, lab, "trainables", "train", "my_lab.methods:OUTLIER", "--sparsity", "0.9",
        "--tasks", "depth", "--data-root", str(tmp_path / "scenes"), "--json", str(result),
        *SMALL_SCENES, *SHORT,
    )  # fmt: skip
    summary = json.loads(result.read_text())
    masks, sparsity = summary["masks"], summary["config"]["sparsity"]
    assert summary["config"]["method"] == "my_lab.methods:OUTLIER"
    assert sparsity["allocation"] == "erk"
    assert masks["kept"] == round((1 - 0.9) * masks["total"])


def test_a_task_and_a_data_set_of_ones_own(
    repository: Path, lab: Path, rooms: Path, tmp_path: Path
) -> None:
    store, out = str(tmp_path / "store"), str(tmp_path / "out")
    said = run(repository, lab, "trainables", "convert", "my_lab.datasets:ROOMS", str(rooms), store)
    assert "8 train, 2 test" in said
    trained = (
        "trainables", "train", "my_lab.methods:OUTLIER", "--dataset", "my_lab.datasets:ROOMS",
        "--data-root", store, *SHORT,
    )  # fmt: skip
    said = run(repository, lab, *trained, "--tasks", "depth,height", "--out", out)
    assert "test/depth/absolute_error" in said
    assert re.search(r"test/height/error \d+\.\d+\n", said)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    data, training = summary["config"]["data"], summary["config"]["training"]
    assert data["tasks"] == ["depth", "height"]
    assert data["own_tasks"] == ["my_lab.tasks:HEIGHT"]
    assert (data["size"], data["crop"]) == ([48, 64], [48, 64])
    assert training["loss_weights"] == {"depth": 1.0, "height": 2.0}
    # By import path it is the same trial, which is finished: resuming it trains nothing.
    again = run(
        repository, lab, *trained, "--tasks", "depth,my_lab.tasks:HEIGHT", "--out", out, "--resume"
    )
    assert again == said
    # In another process the saved model knows its tasks.
    code = (
        "from trainables.training.export import load_model\n"
        f"print(load_model({out + '/model.pt'!r}).config.data.tasks)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{repository}:{lab}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "('depth', 'height')\n"


def test_a_method_becomes_built_in_by_one_file_and_one_description(
    repository: Path, lab: Path, tmp_path: Path
) -> None:
    """The diff is applied to a copy of the packages, and the copy is used."""
    for package in ("trainables", "spaces"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / package, tmp_path / package, ignore=ignored)
    shutil.copy(lab / "my_lab" / "outlier.py", tmp_path / "trainables" / "sparsity" / "methods")
    (diff,) = blocks(repository, "diff")
    done = subprocess.run(
        ["git", "apply", "--verbose", "-"], cwd=tmp_path, input=diff, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "outlier" in run(tmp_path, tmp_path, "trainables", "list", "methods")
    parameters = json.loads(run(tmp_path, tmp_path, "spaces", "show", "full", "--json"))
    drawn_for = {p["name"]: p["when"].get("method", ()) for p in parameters["parameters"]}
    assert "outlier" in drawn_for["sparsity.allocation"]
    assert "outlier" not in drawn_for["regrowth.fraction"]
    said = run(
        tmp_path, tmp_path, "trainables", "train", "outlier", "--sparsity", "0.9",
        "--tasks", "depth", *SMALL_SCENES, *SHORT,
    )  # fmt: skip
    assert re.match(r"kept [\d,]+ of [\d,]+ prunable weights", said)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_method_of_ones_own_is_searched(repository: Path, lab: Path, tmp_path: Path) -> None:
    """From a recipe beside the package, whose folder nothing else names."""
    recipe = lab / "outliers.toml"
    recipe.write_text(
        'summary = "a method of my own"\ndataset = "scenes"\npreset = "tiny"\n'
        'tasks = ["segmentation", "depth"]\nmethods = ["my_lab.methods:OUTLIER"]\n'
        'trials = 3\nscheduler = "none"\nspace = "compact"\n'
        "[settings.training]\nsteps = 3\npretrain_steps = 2\nnum_reports = 1\nbatch_size = 2\n"
    )
    said = run(tmp_path, repository, "search", "run", str(recipe), "--no-report", *SMALL_SCENES)
    assert "study outliers: 3 trials, " in said
    rows = pq.read_table(tmp_path / "runs" / "outliers" / "trials.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["complete"] * 3
    assert {row["method"] for row in rows} == {"dense", "my_lab.methods:OUTLIER"}
    drawn = [row["params/sparsity.allocation"] for row in rows if row["method"] != "dense"]
    assert "erk" in drawn  # its own default, and a setting that it says it reads
