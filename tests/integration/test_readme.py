"""The README's own code, word for word: a user's data set, model and recipe."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHORT = [
    "--set", "data.size=32x32", "--set", "data.crop=32x32", "--set", "training.batch_size=2",
    "--set", "sparsity.saliency_batches=1", "--steps", "3", "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def modules(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `my_data.py` and `my_model.py` as the README prints them."""
    folder = tmp_path_factory.mktemp("readme")
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    blocks += re.findall(r"```toml\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    for block in blocks:
        name = re.match(r"# (\w+\.(?:py|toml))", block)
        assert name is not None, "a block of the README starts with its file's name"
        (folder / name[1]).write_text(block)
    assert {path.name for path in folder.iterdir()} == {
        "load.py",
        "my_data.py",
        "my_model.py",
        "mine.toml",
        "predict.py",
    }
    return folder


def command(folder: Path, modules: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trainables", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(modules), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_frames(folder: Path) -> None:
    draws = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 2)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            stem = folder / split / f"room{i // 2}-{i}"
            Image.fromarray(draws.integers(0, 255, (240, 320, 3), np.uint8)).save(f"{stem}.jpg")
            np.save(f"{stem}.npy", draws.uniform(1, 4, (240, 320)).astype(np.float32))


def test_commands_name_the_environment(repository: Path) -> None:
    """Pasted after `make setup`, without activating anything."""
    text = (repository / "README.md").read_text()
    calls = re.findall(r"^# (\w+\.py): (\S+) \1 ", text, re.MULTILINE)
    assert calls == [("load.py", ".venv/bin/python"), ("predict.py", ".venv/bin/python")]


def test_a_data_set_of_ones_own(repository: Path, modules: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "raw")
    store = str(tmp_path / "store")
    said = command(
        repository, modules, "convert", "my_data:SPEC", str(tmp_path / "raw"), store,
        "--size", "32x32",
    )  # fmt: skip
    assert "8 train, 2 test" in said
    said = command(
        repository, modules, "train", "rigl", "--dataset", "my_data:SPEC", "--data-root", store,
        "--tasks", "depth", *SHORT,
    )  # fmt: skip
    assert "test/depth/absolute_error" in said


def test_a_model_of_ones_own(repository: Path, modules: Path, tmp_path: Path) -> None:
    said = command(
        repository, modules, "train", "disparse-static", "--data-root", str(tmp_path / "scenes"),
        "--set", "model.name=my_model:TwoLayers", "--set", "data.num_train=24",
        "--set", "data.num_test=4", *SHORT,
    )  # fmt: skip
    # 7·7·3·32 shared weights, and 3·3·32 for each channel of the five tasks.
    total = 7 * 7 * 3 * 32 + 3 * 3 * 32 * (12 + 3 + 1 + 1 + 1)
    assert f"kept {round((1 - 0.9) * total):,} of {total:,} prunable weights" in said


def test_predictions_of_pictures_of_ones_own(
    repository: Path, modules: Path, tmp_path: Path
) -> None:
    """The two commands of the README, on a smaller trial."""
    lines = (repository / "README.md").read_text().splitlines()
    start = lines.index("### What a model sees in your own pictures") + 3
    for name in ("photo.jpg", "street.png"):
        Image.fromarray(np.zeros((50, 70, 3), np.uint8)).save(tmp_path / name)
    for line in lines[start : start + 2]:
        assert line.startswith(".venv/bin/python -m trainables ")
        words = line.split()[3:]
        if words[0] == "train":
            words += ["--data-root", "scenes", "--set", "data.num_train=24"]
            words += ["--set", "data.num_test=4", *SHORT]
        command(tmp_path, repository, *words)
    out = tmp_path / "predictions"
    assert {path.name for path in out.iterdir()} == {"photo", "street", "classes.csv"}
    with Image.open(out / "photo" / "segmentation.png") as drawn:
        assert (drawn.height, drawn.width) == (50, 70)
    assert np.load(out / "street" / "depth.npy").shape == (50, 70)


@pytest.mark.slow
def test_prediction_with_onnx_runtime_alone(
    repository: Path, modules: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command(
        repository, modules, "train", "disparse-static", "--data-root", str(tmp_path / "scenes"),
        "--set", "sparsity.structure=channel", "--set", "sparsity.round_to=1", "--sparsity", "0.5",
        "--tasks", "depth,segmentation", "--set", "data.num_train=24", "--set", "data.num_test=4",
        "--out", str(out), *SHORT,
    )  # fmt: skip
    shipped = str(tmp_path / "shipped")
    command(repository, modules, "ship", str(out / "model.pt"), "--out", shipped, "--quiet")
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)).save(photo)
    done = subprocess.run(
        [sys.executable, str(modules / "predict.py"), f"{shipped}/model.onnx", str(photo)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'depth': (1, 1, " in done.stdout
    assert "'segmentation': (1, 12, " in done.stdout


@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_recipe_of_ones_own(repository: Path, modules: Path, tmp_path: Path) -> None:
    """Its modules lie beside it; nothing names their folder."""
    write_frames(tmp_path / "raw")
    done = subprocess.run(
        [
            sys.executable, "-m", "search", "run", str(modules / "mine.toml"),
            "--data-root", str(tmp_path / "raw"), "--trials", "3", "--no-report",
            "--set", "training.steps=3", "--set", "training.num_reports=1",
            "--set", "training.batch_size=2", "--set", "sparsity.saliency_batches=1",
            "--set", "data.size=32x32", "--set", "data.crop=32x32",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "study mine: 3 trials" in done.stdout


def test_a_model_is_loaded(repository: Path, modules: Path, tmp_path: Path) -> None:
    out = tmp_path / "dense"
    command(repository, modules, "train", "snip", "--tasks", "depth", "--out", str(out), *SHORT)
    done = subprocess.run(
        [sys.executable, str(modules / "load.py"), str(out / "model.pt")],
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{'depth': (1, 1, 4, 4)}"
