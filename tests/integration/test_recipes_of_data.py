"""Every data set is searched from a recipe file: it ends in a front, a report and MLflow runs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.integration.programs.own_code import write_own_code
from tests.integration.records import mlflow_runs
from tests.trainables.data.sources.official_files import (
    random_city,
    random_room,
    write_official_city,
    write_room,
)

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]

SHORT = """
[settings]
"sparsity.saliency_batches" = 1

[settings.training]
steps = 4
num_reports = 2
batch_size = 4
evaluation_batch_size = 4
"""


def recipe(folder: Path, dataset: str, tasks: list[str], further: str = "") -> Path:
    """A recipe of three trials in a file."""
    path = folder / "mine.toml"
    path.write_text(
        f'summary = "a short study"\ndataset = "{dataset}"\npreset = "tiny"\n'
        f'tasks = {json.dumps(tasks)}\nmethods = ["snip", "disparse-static"]\n'
        f"trials = 3\nconcurrency = 1\n{SHORT}{further}"
    )
    return path


def scenes(folder: Path) -> list[str]:
    """Procedural frames."""
    few = "\n[settings.data]\nnum_train = 16\nnum_test = 4\n"
    return [str(recipe(folder, "scenes", ["segmentation", "normals", "depth"], few))]


def nyu_v2(folder: Path) -> list[str]:
    """The real frames, a few of them."""
    few = "\n[settings.data]\nnum_train = 16\nnum_test = 4\n"
    path = recipe(folder, "nyu-v2", ["segmentation", "normals"], few)
    return [str(path), "--data-root", str(Path(os.environ["DISPARSE_DATA"]) / "nyuv2")]


def cityscapes(folder: Path) -> list[str]:
    """The official folders and encodings."""
    size = (64, 128)
    cities = {"ulm": "train", "bochum": "train", "jena": "train", "lindau": "val"}
    for number, (city, split) in enumerate(cities.items()):
        for frame in range(4):
            values = random_city(10 * number + frame, size)
            write_official_city(folder / "raw", split, f"{city}_000000_{frame:06d}", values)
    path = recipe(folder, "cityscapes", ["segmentation", "depth"])
    return [str(path), "--data-root", str(folder / "raw")]


def taskonomy(folder: Path) -> list[str]:
    """Folders by building and domain."""
    buildings = ("allensville", "beechwood", "coffeen", "corozal", "collierville")
    for number, building in enumerate(buildings):
        for point in range(4):
            values = random_room(10 * number + point, (64, 64))
            write_room(folder / "raw", building, point, values)
    tasks = ["segmentation", "normals", "depth", "keypoints", "edges"]
    return [str(recipe(folder, "taskonomy", tasks)), "--data-root", str(folder / "raw")]


def own(folder: Path) -> list[str]:
    """A data set, a model, a task and a method of a user's own."""
    (folder / "raw").mkdir()
    (folder / "raw" / "frames").touch()  # an empty folder is taken for a mistake
    return [str(write_own_code(folder / "code")), "--data-root", str(folder / "raw")]


DATA: dict[str, Callable[[Path], list[str]]] = {
    "scenes": scenes,
    "nyu-v2": nyu_v2,
    "cityscapes": cityscapes,
    "taskonomy": taskonomy,
    "own": own,
}


def search(*arguments: str, folder: Path) -> str:
    """Run the command as a user types it, in a folder of the user's."""
    done = subprocess.run(
        [sys.executable, "-m", "search", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def marks(name: str) -> list[pytest.MarkDecorator]:
    """What is a user's own has most that can go wrong; the others take as long."""
    return [pytest.mark.slow] * (name != "own") + [pytest.mark.realdata] * (name == "nyu-v2")


@pytest.mark.parametrize("data", [pytest.param(name, marks=marks(name)) for name in DATA])
def test_a_recipes_file_is_searched_and_compared(data: str, tmp_path: Path) -> None:
    arguments = DATA[data](tmp_path)
    said = search("run", *arguments, "--name", "searched", folder=tmp_path)
    dense = [line for line in said.splitlines() if "parameters stay dense" in line]
    assert len(dense) == (data == "own"), said
    assert all(line.startswith("note: 256 of ") and "mixing" in line for line in dense)
    folder = tmp_path / "runs"
    rows = pq.read_table(folder / "searched" / "trials.parquet").to_pylist()
    assert len(rows) >= 3
    assert {row["status"] for row in rows} <= {"complete", "stopped"}
    assert pq.read_metadata(folder / "searched" / "front.parquet").num_rows >= 1
    assert (folder / "searched" / "report.html").stat().st_size > 100_000
    _, parents, children = mlflow_runs(folder, "searched")
    assert [run.info.status for run in parents] == ["FINISHED"]
    assert len(children) == len(rows)
    systems = ["--methods", f"dense,{rows[1]['method']}", "--sparsities", "0.5", "--seeds", "1"]
    # Reports of grids are looked at in test_search_baselines.
    name = ["--name", "compared", "--no-report"]
    search("baselines", *arguments, *systems, *name, folder=tmp_path)
    compared = pq.read_table(folder / "compared" / "trials.parquet").to_pylist()
    assert [row["status"] for row in compared] == ["complete"] * 2
