"""Commands are written with the Python that runs them, as it is typed in the present folder."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from trainables.data.store.split_file import CONVERT_AGAIN
from trainables.errors import UserError
from trainables.registry.methods import METHODS
from trainables.sweep import command as sweep_command
from trainables.sweep.grid import GridFile
from trainables.sweep.run import SweepOptions
from trainables.terminal.as_typed import command, in_text, python, study_command


def folder_with_python(folder: Path, name: str = "python") -> Path:
    folder.mkdir(parents=True)
    (folder / name).symlink_to(os.path.realpath(sys.executable))
    return folder / name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, and no `python` on PATH."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    return here


def test_below_the_present_folder_it_is_a_path_from_there(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(folder_with_python(here / ".venv" / "bin")))
    monkeypatch.setenv("PATH", str(here / ".venv" / "bin"))
    assert python() == ".venv/bin/python"
    assert command("trainables list", "a b") == ".venv/bin/python -m trainables list 'a b'"
    assert in_text("python -m x; python -m y") == ".venv/bin/python -m x; .venv/bin/python -m y"
    assert in_text(in_text("python -m x")) == ".venv/bin/python -m x"
    said = study_command("search confirm", "demo", here / "runs", "--seeds", "5")
    assert said == ".venv/bin/python -m search confirm demo --seeds 5"


def test_elsewhere_it_is_python_where_that_is_the_same(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = folder_with_python(tmp_path / "ours")
    monkeypatch.setattr(sys, "executable", str(ours))
    assert python() == str(ours)  # no `python` on PATH
    monkeypatch.setenv("PATH", str(ours.parent))
    assert python() == "python"
    # Started as `python3`, of the same environment.
    (ours.parent / "python3").symlink_to(os.path.realpath(sys.executable))
    monkeypatch.setattr(sys, "executable", str(ours.parent / "python3"))
    assert python() == "python"


def test_the_python_that_an_environment_is_made_of_is_another_one(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, ours = (folder_with_python(tmp_path / name) for name in ("base", "my venv"))
    monkeypatch.setattr(sys, "executable", str(ours))
    monkeypatch.setenv("PATH", str(base.parent))
    assert ours.samefile(base)
    assert python() == f"'{ours}'"


@pytest.mark.parametrize("package", ["trainables", "spaces", "search", "analysis"])
def test_a_python_without_the_packages_says_what_to_do(package: str, repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _RUN, package],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: the Python in use must have the package 'typer', which {sys.executable} lacks; "
        "run `make setup` once, then use .venv/bin/python\n"
    )


_RUN = "import runpy, sys; sys.path.insert(0, '.'); runpy.run_module(sys.argv[1], None, '__main__')"


def test_errors_leave_it_to_who_prints_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker elsewhere may raise them, and what it raises is recorded."""
    monkeypatch.setattr(sys, "executable", "/workers/own/bin/python")
    with pytest.raises(UserError, match="`python -m trainables list structures` shows"):
        METHODS["rigl"].require_structure("channel")
    assert CONVERT_AGAIN.startswith("write the store again (`python -m trainables convert`)")


def test_what_follows_a_sweep_is_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = SimpleNamespace(name="rates", study="rates", device="cpu")
    end = SimpleNamespace(sweep=sweep, counts={"complete": 1}, damaged=[], trials=[])
    monkeypatch.setattr(sweep_command, "run_sweep", lambda *_: end)
    monkeypatch.setattr(sweep_command, "check_complete", lambda _: None)
    options = SweepOptions(command=["x"])
    sweep_command._sweep(cast(GridFile, None), tmp_path / "of mine", options, None)
    said = capsys.readouterr().out
    assert f"record: {python()} -m search import '{tmp_path}/of mine'\n" in said
