"""The key of a dense run changes with the code that trains it, and with no other file."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainables
from trainables.training.dense_runs import key as dense_key
from trainables.training.dense_runs.key import dense_config, entry_key, model_digest, package_digest

PACKAGE = Path(trainables.__file__).parent


@pytest.fixture(autouse=True)
def _as_a_new_process() -> Iterator[None]:
    yield
    package_digest.cache_clear()
    model_digest.cache_clear()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "trainables", ignore=ignored))


@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        ("config.py", True),
        ("seeds.py", True),
        ("report.py", True),
        ("coercion.py", True),
        ("cost.py", True),  # of the metrics in the stored reports
        ("data/loader.py", True),
        ("models/deeplab_resnet.py", True),
        ("tasks/losses/added.py", True),
        ("training/loop.py", True),
        ("sparsity/masks.py", True),
        ("tune.py", False),
        ("__main__.py", False),
        ("models/notes.txt", False),
    ],
)
def test_an_edit_of_what_trains_makes_other_entries(
    copied: Path, edited: str, counts: bool
) -> None:
    before = package_digest(copied)
    assert before == package_digest(PACKAGE)  # wherever it lies
    path = copied / edited
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write("# edited\n")
    assert package_digest(copied) == before  # what a process has imported stays as it is
    package_digest.cache_clear()
    assert (package_digest(copied) != before) == counts


def test_the_key_follows_the_sources(small_trial, monkeypatch) -> None:
    config = dense_config(small_trial("imp"))
    before = entry_key(config, "cpu")
    assert entry_key(config, "cpu") == before
    monkeypatch.setattr(dense_key, "package_digest", lambda: "edited")
    assert entry_key(config, "cpu") != before


@pytest.mark.parametrize(
    ("name", "edited", "counts"),
    [
        ("their_package.nets:Net", "their_package/layers.py", True),
        ("their_package.nets:Net", "their_package/deep/scales.json", True),
        ("their_package.nets:Net", "their_package/__pycache__/nets.pyc", False),
        ("their_package.nets:Net", "their_module.py", False),
        ("their_namespace.nets:Net", "their_namespace/layers.py", True),
        ("their_module:Net", "their_layers.py", True),
        ("their_module:Net", "notes.txt", False),
        ("their_module:Net", "their_package/layers.py", False),
    ],
)
def test_a_users_model_counts_with_what_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, edited: str, counts: bool
) -> None:
    files = (
        "their_package/__init__.py", "their_package/nets.py", "their_package/layers.py",
        "their_namespace/nets.py", "their_namespace/layers.py",
        "their_module.py", "their_layers.py",
    )  # fmt: skip
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = model_digest(name)
    assert before is not None
    (tmp_path / edited).parent.mkdir(exist_ok=True)
    (tmp_path / edited).write_text("# edited\n")
    model_digest.cache_clear()
    assert (model_digest(name) != before) == counts


def test_a_model_of_ours_or_of_nobody_has_no_digest() -> None:
    assert model_digest("deeplab-resnet") is None
    assert model_digest("no_such_module:Net") is None
    assert model_digest("sys:Net") is None
